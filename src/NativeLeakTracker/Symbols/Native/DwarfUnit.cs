namespace NativeLeaks.Symbols.Native;

/// <summary>A unit of debug information: what its header and its first entry say. (DWARF 5, 7.5.1 and 3.1.)</summary>
internal sealed class DwarfUnit
{
    private const int Type = 0x02, Skeleton = 0x04, SplitCompile = 0x05, SplitType = 0x06;

    private bool _isRead;

    private DwarfUnit(int at, int end, int entriesAt, DwarfWidths widths, ulong abbreviationsAt, bool isOfTypes)
    {
        At = at;
        End = end;
        EntriesAt = entriesAt;
        Widths = widths;
        AbbreviationsAt = abbreviationsAt;
        IsOfTypes = isOfTypes;
    }

    /// <summary>Where it begins in .debug_info.</summary>
    public int At { get; }

    public int End { get; }

    /// <summary>Where its first entry begins.</summary>
    public int EntriesAt { get; }

    public DwarfWidths Widths { get; }

    public ulong AbbreviationsAt { get; }

    /// <summary>Whether it describes a type, and so has no code.</summary>
    public bool IsOfTypes { get; }

    public DwarfAbbreviations? Abbreviations { get; set; }

    public int Tag { get; private set; }

    public ulong LowPc { get; private set; }

    /// <summary>Its code as one piece; null when it says so by a list, or not at all.</summary>
    public ulong? HighPc { get; private set; }

    public DwarfValue? Ranges { get; private set; }

    public ulong? LinesAt { get; private set; }

    public DwarfValue? Folder { get; private set; }

    public int Language { get; private set; }

    /// <summary>Whether its entries are in another file (.dwo).</summary>
    public bool IsSplit { get; private set; }

    public ulong StringOffsetsBase { get; private set; }

    public ulong AddressBase { get; private set; }

    public ulong RangeListsBase { get; private set; }

    /// <summary>In C a function's name is the name that linkers see.</summary>
    public bool HasPlainNames => Language is 0x01 or 0x02 or 0x0c or 0x12 or 0x1d or 0x2c or 0x8001;

    /// <summary>The functions of its code; null until somebody asked.</summary>
    public DwarfScopes? Scopes { get; set; }

    public DwarfLines? Lines { get; set; }

    /// <summary>
    /// Reads the header at the cursor and moves to the next unit; null for one of a kind that is not known, and at the end.
    /// </summary>
    public static DwarfUnit? ReadHeader(byte[] section, ref ByteCursor cursor)
    {
        int at = cursor.At;
        ulong length = cursor.U32();
        byte offsetBytes = 4;
        if (length == uint.MaxValue)
        {
            length = cursor.U64();
            offsetBytes = 8;
        }

        int inside = cursor.At;
        int end = (int)Math.Min((ulong)section.Length, (ulong)inside + Math.Min(length, int.MaxValue));
        var header = new ByteCursor(section, inside, end);
        cursor.Skip(length);
        ushort version = header.U16();
        byte type = 0, addressBytes;
        ulong abbreviations;
        if (version >= 5)
        {
            type = header.U8();
            addressBytes = header.U8();
            abbreviations = header.Unsigned(offsetBytes);
            header.Skip(type switch
            {
                Skeleton or SplitCompile => 8,
                Type or SplitType => 8u + offsetBytes,
                _ => 0,
            });
        }
        else
        {
            abbreviations = header.Unsigned(offsetBytes);
            addressBytes = header.U8();
        }

        return header.Failed || version is < 2 or > 5 || addressBytes is not (4 or 8)
            ? null
            : new DwarfUnit(
                at, end, header.At, new DwarfWidths((byte)version, offsetBytes, addressBytes), abbreviations, type is Type or SplitType);
    }

    /// <summary>Reads the first entry, once.</summary>
    public void ReadFirstEntry(DwarfInfo info)
    {
        if (_isRead)
        {
            return;
        }

        _isRead = true;
        byte[] section = info.Sections.Info;
        var cursor = new ByteCursor(section, EntriesAt, End);
        DwarfAbbreviations abbreviations = info.AbbreviationsOf(this);
        DwarfAbbreviation kind = abbreviations.Find(cursor.Uleb());
        Tag = kind.Tag;
        DwarfValue low = default, high = default;
        DwarfWidths widths = Widths;
        foreach (DwarfAttributeForm attribute in abbreviations.AttributesOf(kind))
        {
            var value = DwarfValue.Read(ref cursor, attribute.Form, attribute.ImplicitConstant, widths, At);
            if (cursor.Failed)
            {
                break;
            }

            switch (attribute.Name)
            {
                case DwarfAttribute.LowPc:
                    low = value;
                    break;
                case DwarfAttribute.HighPc:
                    high = value;
                    break;
                case DwarfAttribute.Ranges:
                    Ranges = value;
                    break;
                case DwarfAttribute.StatementList:
                    LinesAt = value.Number;
                    break;
                case DwarfAttribute.CompilationFolder:
                    Folder = value;
                    break;
                case DwarfAttribute.Language:
                    Language = (int)Math.Min(value.Number, ushort.MaxValue);
                    break;
                case DwarfAttribute.StringOffsetsBase:
                    StringOffsetsBase = value.Number;
                    break;
                case DwarfAttribute.AddressBase or DwarfAttribute.GnuAddressBase:
                    AddressBase = value.Number;
                    break;
                case DwarfAttribute.RangeListsBase:
                    RangeListsBase = value.Number;
                    break;
                case DwarfAttribute.SplitName or DwarfAttribute.GnuSplitName:
                    IsSplit = true;
                    break;
            }
        }

        // Only now, because the base that an indexed address needs can stand behind it.
        LowPc = info.AddressOf(low, this) ?? 0;
        HighPc = low.Kind == DwarfValueKind.Other ? null : info.HighPc(LowPc, high, this);
    }
}
