using System.Buffers.Binary;
using System.Text;

namespace NativeLeaks.Symbols.Native;

/// <summary>A function's name in debug information, and whether it is the one that linkers see.</summary>
internal readonly record struct DwarfName(string? Text, bool IsLinkageName);

/// <summary>
/// The debug information of one file (DWARF 2 to 5): its units, which of them an address belongs to, and the names of entries.
/// Units are looked into when an address asks for them.
/// </summary>
internal sealed class DwarfInfo
{
    private const int MaxNameBytes = 32 << 10, MaxHops = 32;

    private readonly List<DwarfUnit> _units = [];
    private readonly Dictionary<(ulong, DwarfWidths), DwarfAbbreviations> _abbreviations = [];
    private readonly Dictionary<int, DwarfName> _names = [];
    private readonly Dictionary<ulong, DwarfLines> _lines = [];
    private readonly Dictionary<int, string?> _texts = [];
    private readonly Func<DwarfInfo?> _openSupplement;
    private readonly SymbolProblems _problems;
    private AddressMap? _unitsByAddress;
    private DwarfInfo? _supplement;
    private bool _hasAskedForSupplement;

    public DwarfInfo(ElfFile file, CodeRegions code, SymbolProblems problems, Func<DwarfInfo?> openSupplement)
    {
        Code = code;
        _problems = problems;
        _openSupplement = openSupplement;
        Limits = new DwarfLimits();
        Sections = new DwarfSections(file, Limits);
        ReadUnits();
    }

    public DwarfSections Sections { get; }

    public DwarfLimits Limits { get; }

    public CodeRegions Code { get; }

    /// <summary>The unit with the code at an address.</summary>
    public DwarfUnit? UnitAt(ulong address)
    {
        _unitsByAddress ??= MapUnits();
        int index = _unitsByAddress.Find(address);
        NoteLimits();
        return index < 0 ? null : _units[index];
    }

    public DwarfScopes ScopesOf(DwarfUnit unit)
    {
        if (unit.Scopes is null)
        {
            unit.Scopes = DwarfScopes.Read(this, unit);
            if (unit.Scopes.IsDamaged)
            {
                Note(".debug_info is damaged");
            }

            NoteLimits();
        }

        return unit.Scopes;
    }

    /// <summary>The lines of a unit; units can share them.</summary>
    public DwarfLines LinesOf(DwarfUnit unit)
    {
        if (unit.Lines is null)
        {
            ulong at = unit.LinesAt ?? ulong.MaxValue;
            if (!_lines.TryGetValue(at, out DwarfLines? lines))
            {
                _lines[at] = lines = DwarfLines.Read(this, unit);
                if (lines.IsDamaged)
                {
                    Note(".debug_line is damaged");
                }

                NoteLimits();
            }

            unit.Lines = lines;
        }

        return unit.Lines;
    }

    public DwarfAbbreviations AbbreviationsOf(DwarfUnit unit)
    {
        if (unit.Abbreviations is null)
        {
            (ulong, DwarfWidths) key = (unit.AbbreviationsAt, unit.Widths);
            if (!_abbreviations.TryGetValue(key, out DwarfAbbreviations? table))
            {
                table = DwarfAbbreviations.Read(Sections.Abbreviations, unit.AbbreviationsAt, unit.Widths, Limits);
                _abbreviations[key] = table;
            }

            unit.Abbreviations = table;
        }

        return unit.Abbreviations;
    }

    /// <summary>The name of the function that an entry describes, or another that it points at.</summary>
    public DwarfName NameOf(int entry)
    {
        if (!_names.TryGetValue(entry, out DwarfName name))
        {
            _names[entry] = name = FindName(entry);
            NoteLimits();
        }

        return name;
    }

    public ulong? AddressOf(in DwarfValue value, DwarfUnit unit) => value.Kind switch
    {
        DwarfValueKind.Address => value.Number,
        DwarfValueKind.AddressIndex => IndexedAddress(value.Number, unit),
        _ => null,
    };

    /// <summary>The end of a piece of code: an address, or the piece's length.</summary>
    public ulong? HighPc(ulong low, in DwarfValue high, DwarfUnit unit)
    {
        ulong? end = high.Kind == DwarfValueKind.Constant ? low + high.Number : AddressOf(high, unit);
        return end > low ? end : null;
    }

    public ulong? IndexedAddress(ulong index, DwarfUnit unit)
    {
        int bytes = unit.Widths.AddressBytes;
        if (index > int.MaxValue || unit.AddressBase > int.MaxValue)
        {
            return null;
        }

        var cursor = new ByteCursor(
            Sections.Addresses, (int)Math.Min(unit.AddressBase + (index * (ulong)bytes), int.MaxValue), Sections.Addresses.Length);
        ulong address = cursor.Unsigned(bytes);
        return cursor.Failed ? null : address;
    }

    /// <summary>A string, wherever it lies; at most so many bytes of it.</summary>
    public string? TextOf(in DwarfValue value, DwarfUnit unit, int maxBytes = MaxNameBytes)
    {
        switch (value.Kind)
        {
            case DwarfValueKind.TextInInfo:
                return Decode(Sections.Info, value.Number, maxBytes);
            case DwarfValueKind.TextInLines:
                return Decode(Sections.Lines, value.Number, maxBytes);
            case DwarfValueKind.TextInLineStrings:
                return Decode(Sections.LineStrings, value.Number, maxBytes);
            case DwarfValueKind.TextIndex:
                int bytes = unit.Widths.OffsetBytes;
                if (value.Number > int.MaxValue || unit.StringOffsetsBase > int.MaxValue)
                {
                    return null;
                }

                var cursor = new ByteCursor(
                    Sections.StringOffsets,
                    (int)Math.Min(unit.StringOffsetsBase + (value.Number * (ulong)bytes), int.MaxValue),
                    Sections.StringOffsets.Length);
                ulong offset = cursor.Unsigned(bytes);
                return cursor.Failed ? null : Interned(offset, maxBytes);
            case DwarfValueKind.TextInStrings:
                return Interned(value.Number, maxBytes);
            case DwarfValueKind.TextInSupplement:
                return Supplement?.Interned(value.Number, maxBytes);
            default:
                return null;
        }
    }

    private DwarfInfo? Supplement
    {
        get
        {
            if (!_hasAskedForSupplement)
            {
                _hasAskedForSupplement = true;
                _supplement = _openSupplement();
            }

            return _supplement;
        }
    }

    private void ReadUnits()
    {
        byte[] section = Sections.Info;
        var cursor = new ByteCursor(section, 0, section.Length);
        bool isWhole = true;
        while (!cursor.IsAtEnd)
        {
            if (!Limits.TryStep(8))
            {
                break;
            }

            DwarfUnit? unit = DwarfUnit.ReadHeader(section, ref cursor);
            isWhole &= unit is not null && !cursor.Failed;
            if (unit is not null)
            {
                _units.Add(unit);
            }
        }

        if (!isWhole)
        {
            Note(".debug_info is damaged, or of an unknown version");
        }
    }

    private AddressMap MapUnits()
    {
        List<AddressRange> ranges = [];
        Dictionary<ulong, List<AddressRange>>? tables = null;
        for (int i = 0; i < _units.Count; i++)
        {
            DwarfUnit unit = _units[i];
            if (unit.IsOfTypes || !Limits.TryStep(1))
            {
                continue;
            }

            unit.ReadFirstEntry(this);
            if (unit.IsSplit)
            {
                Note("its debug information is split (.dwo), which is not read; lines and symbols are");
            }

            int before = ranges.Count;
            if (unit.Ranges is { } list)
            {
                DwarfRanges.Read(this, unit, list, i, ranges);
            }
            else if (unit.HighPc is { } high && Code.Holds(unit.LowPc) && Limits.TryAddRange())
            {
                ranges.Add(new AddressRange(unit.LowPc, high, i));
            }

            // The second version has no lists; there, and by some producers, it is left to the table of all units to tell of code in
            // several pieces.
            if ((ranges.Count > before && unit.Widths.Version > 2) || unit.Tag != DwarfTag.CompileUnit)
            {
                continue;
            }

            tables ??= DwarfRanges.ReadTables(this);
            foreach (AddressRange range in tables.GetValueOrDefault((ulong)unit.At) ?? [])
            {
                ranges.Add(range with { Value = i });
            }
        }

        return AddressMap.Of(ranges.ToArray());
    }

    private DwarfName FindName(int entry)
    {
        DwarfInfo info = this;
        ulong at = (ulong)entry;
        string? plain = null;

        // A chain: from the code to the function that was inlined, to its declaration in a class. A hostile one is a circle.
        for (int hop = 0; hop < MaxHops; hop++)
        {
            if (info.UnitOf(at) is not { } unit || info.ReadNames((int)at, unit) is not { } names)
            {
                break;
            }

            if (names.Linkage is { } linkage && info.TextOf(linkage, unit) is { Length: > 0 } text)
            {
                return new DwarfName(text, true);
            }

            if (plain is null && names.Plain is { } name && info.TextOf(name, unit) is { Length: > 0 } plainText)
            {
                plain = plainText;
            }

            if (names.Next is not { } next)
            {
                break;
            }

            if (next.Kind == DwarfValueKind.EntryInSupplement)
            {
                if (info.Supplement is not { } supplement)
                {
                    break;
                }

                info = supplement;
            }

            at = next.Number;
        }

        return new DwarfName(plain, false);
    }

    private (DwarfValue? Linkage, DwarfValue? Plain, DwarfValue? Next)? ReadNames(int at, DwarfUnit unit)
    {
        unit.ReadFirstEntry(this);
        DwarfAbbreviations abbreviations = AbbreviationsOf(unit);
        var cursor = new ByteCursor(Sections.Info, at, unit.End);
        DwarfAbbreviation kind = abbreviations.Find(cursor.Uleb());
        if (kind.Code == 0 || !Limits.TryStep(kind.AttributeCount))
        {
            return null;
        }

        DwarfValue? linkage = null, plain = null, origin = null, specification = null;
        DwarfWidths widths = unit.Widths;
        foreach (DwarfAttributeForm attribute in abbreviations.AttributesOf(kind))
        {
            var value = DwarfValue.Read(ref cursor, attribute.Form, attribute.ImplicitConstant, widths, unit.At);
            if (cursor.Failed)
            {
                break;
            }

            switch (attribute.Name)
            {
                case DwarfAttribute.LinkageName or DwarfAttribute.MipsLinkageName:
                    linkage = value;
                    break;
                case DwarfAttribute.Name:
                    plain = value;
                    break;
                case DwarfAttribute.AbstractOrigin when IsEntry(value):
                    origin = value;
                    break;
                case DwarfAttribute.Specification when IsEntry(value):
                    specification = value;
                    break;
            }
        }

        return (linkage, plain, origin ?? specification);

        static bool IsEntry(in DwarfValue value) => value.Kind is DwarfValueKind.Entry or DwarfValueKind.EntryInSupplement;
    }

    private DwarfUnit? UnitOf(ulong entry)
    {
        int low = 0, high = _units.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if ((ulong)_units[middle].At <= entry)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        return low > 0 && _units[low - 1] is var unit && entry >= (ulong)unit.EntriesAt && entry < (ulong)unit.End ? unit : null;
    }

    // Folders and many names are shared by hundreds of entries.
    private string? Interned(ulong offset, int maxBytes)
    {
        if (offset > int.MaxValue)
        {
            return null;
        }

        if (!_texts.TryGetValue((int)offset, out string? text))
        {
            _texts[(int)offset] = text = Decode(Sections.Strings, offset, maxBytes);
        }

        return text;
    }

    private string? Decode(byte[] section, ulong offset, int maxBytes)
    {
        if (offset >= (ulong)section.Length)
        {
            return null;
        }

        ReadOnlySpan<byte> rest = section.AsSpan((int)offset);
        rest = rest[..Math.Min(rest.Length, maxBytes)];
        int end = rest.IndexOf((byte)0);
        ReadOnlySpan<byte> bytes = end < 0 ? rest : rest[..end];
        return Limits.TryDecode(bytes.Length + 16) ? Encoding.UTF8.GetString(bytes) : null;
    }

    private void Note(string what) => _problems.Add(Sections.File.Path, what);

    private void NoteLimits()
    {
        if (Limits.WasReached)
        {
            Note("its debug information takes more work than its size allows; a part was left out");
        }
    }
}
