using System.Runtime.CompilerServices;

namespace NativeLeaks.Symbols.Native;

/// <summary>A function in the code of a unit: one that was compiled, or one that was inlined somewhere.</summary>
/// <param name="Parent">The function that it was inlined into; negative: none.</param>
/// <param name="Entry">Its entry in .debug_info.</param>
/// <param name="CallFile">File of the call that was inlined, as the unit's lines number it.</param>
/// <param name="CallLine">Line of that call.</param>
/// <param name="Start">Where its code begins.</param>
/// <param name="IsInlined">Whether it was inlined.</param>
internal readonly record struct DwarfScope(int Parent, int Entry, int CallFile, int CallLine, ulong Start, bool IsInlined);

/// <summary>
/// The functions of one unit and what was inlined into them, by address: made by one pass over the unit's entries, none of which
/// becomes an object.
/// </summary>
internal sealed class DwarfScopes
{
    private readonly List<DwarfScope> _scopes = [];
    private AddressMap _map = AddressMap.Of([]);

    /// <summary>Whether the entries end before they should.</summary>
    public bool IsDamaged { get; private set; }

    public static DwarfScopes Read(DwarfInfo info, DwarfUnit unit)
    {
        var scopes = new DwarfScopes();
        List<AddressRange> ranges = [];
        if (info.Limits.TryStep(unit.End - unit.EntriesAt))
        {
            scopes.Scan(info, unit, ranges);
        }

        scopes._map = AddressMap.Of(ranges.ToArray());
        return scopes;
    }

    /// <summary>The innermost function at an address, to be asked <see cref="this[int]"/> for; negative when there is none.</summary>
    public int Find(ulong address) => _map.Find(address);

    public DwarfScope this[int index] => _scopes[index];

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Scan(DwarfInfo info, DwarfUnit unit, List<AddressRange> ranges)
    {
        DwarfAbbreviations abbreviations = info.AbbreviationsOf(unit);
        var cursor = new ByteCursor(info.Sections.Info, unit.EntriesAt, unit.End);
        int[] enclosing = new int[64];
        enclosing[0] = AddressMap.Nothing;
        int depth = 0;
        while (!cursor.IsAtEnd)
        {
            int at = cursor.At;
            ulong code = cursor.Uleb();
            if (code == 0)
            {
                // Units may be padded behind their last entry.
                depth = Math.Max(depth - 1, 0);
                continue;
            }

            ref readonly DwarfAbbreviation kind = ref abbreviations.Find(code);
            if (kind.Code == 0)
            {
                IsDamaged = true;
                return;
            }

            int scope = enclosing[depth];
            if (kind.Tag == DwarfTag.InlinedSubroutine)
            {
                scope = ReadScope(info, unit, abbreviations, kind, ref cursor, at, scope, ranges);
            }
            else if (kind.Tag == DwarfTag.Subprogram)
            {
                scope = AddressMap.Nothing;
                if (kind.HasCode)
                {
                    scope = ReadScope(info, unit, abbreviations, kind, ref cursor, at, scope, ranges);
                }
                else
                {
                    abbreviations.Skip(ref cursor, kind);
                }
            }
            else
            {
                abbreviations.Skip(ref cursor, kind);
            }

            if (kind.HasChildren)
            {
                if (++depth == enclosing.Length)
                {
                    Array.Resize(ref enclosing, 2 * depth);
                }

                enclosing[depth] = scope;
            }
        }

        IsDamaged = cursor.Failed;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private int ReadScope(
        DwarfInfo info, DwarfUnit unit, DwarfAbbreviations abbreviations, in DwarfAbbreviation kind, ref ByteCursor cursor, int at,
        int parent, List<AddressRange> ranges)
    {
        ulong callFile = 0, callLine = 0;
        DwarfValue low = default, high = default, list = default;
        bool hasList = false;
        DwarfWidths widths = unit.Widths;
        ReadOnlySpan<DwarfAttributeForm> attributes = abbreviations.AttributesOf(kind);
        if (!info.Limits.TryStep(attributes.Length))
        {
            cursor.Skip(ulong.MaxValue);
            return AddressMap.Nothing;
        }

        foreach (ref readonly DwarfAttributeForm attribute in attributes)
        {
            var value = DwarfValue.Read(ref cursor, attribute.Form, attribute.ImplicitConstant, widths, unit.At);
            switch (attribute.Name)
            {
                case DwarfAttribute.LowPc:
                    low = value;
                    break;
                case DwarfAttribute.HighPc:
                    high = value;
                    break;
                case DwarfAttribute.Ranges:
                    (list, hasList) = (value, true);
                    break;
                case DwarfAttribute.CallFile:
                    callFile = value.Number;
                    break;
                case DwarfAttribute.CallLine:
                    callLine = value.Number;
                    break;
            }
        }

        if (cursor.Failed)
        {
            return AddressMap.Nothing;
        }

        int index = _scopes.Count;
        int first = ranges.Count;
        if (hasList)
        {
            DwarfRanges.Read(info, unit, list, index, ranges);
        }
        else if (info.AddressOf(low, unit) is { } start && info.HighPc(start, high, unit) is { } end &&
                 info.Code.Holds(start) && info.Limits.TryAddRange())
        {
            ranges.Add(new AddressRange(start, end, index));
        }

        _scopes.Add(new DwarfScope(
            parent,
            at,
            (int)Math.Min(callFile, int.MaxValue),
            (int)Math.Min(callLine, int.MaxValue),
            ranges.Count > first ? ranges[first].Start : 0,
            kind.Tag == DwarfTag.InlinedSubroutine));
        return index;
    }
}
