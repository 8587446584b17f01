using System.Runtime.CompilerServices;

namespace NativeLeaks.Symbols.Native;

/// <summary>Reads lists of the pieces that code lies in. (DWARF 5, 2.17.3, 7.25 and 6.1.2; DWARF 4, 2.17.3.)</summary>
internal static class DwarfRanges
{
    private const int
        EndOfList = 0,
        BaseIndex = 1,
        IndexAndIndex = 2,
        IndexAndLength = 3,
        OffsetPair = 4,
        BaseAddress = 5,
        StartAndEnd = 6,
        StartAndLength = 7;

    /// <summary>Adds the pieces of a list that are in the library.</summary>
    public static void Read(DwarfInfo info, DwarfUnit unit, in DwarfValue list, int value, List<AddressRange> ranges)
    {
        if (unit.Widths.Version < 5)
        {
            ReadPairs(info, unit, list.Number, value, ranges);
        }
        else if (list.Kind != DwarfValueKind.RangeListIndex)
        {
            ReadList(info, unit, list.Number, value, ranges);
        }
        else if (OffsetOf(info, unit, list.Number) is { } at)
        {
            ReadList(info, unit, at, value, ranges);
        }
    }

    /// <summary>What .debug_aranges says, by the unit's place.</summary>
    public static Dictionary<ulong, List<AddressRange>> ReadTables(DwarfInfo info)
    {
        byte[] section = info.Sections.AddressRanges;
        Dictionary<ulong, List<AddressRange>> tables = [];
        var cursor = new ByteCursor(section, 0, section.Length);
        while (!cursor.IsAtEnd && info.Limits.TryStep(1))
        {
            ulong length = cursor.U32();
            int offsetBytes = 4;
            if (length == uint.MaxValue)
            {
                length = cursor.U64();
                offsetBytes = 8;
            }

            int start = cursor.At;
            cursor.Skip(length);
            var table = new ByteCursor(section, start, cursor.At);
            ushort version = table.U16();
            ulong unit = table.Unsigned(offsetBytes);
            byte addressBytes = table.U8(), selectorBytes = table.U8();
            if (cursor.Failed || version != 2 || addressBytes != 8 || selectorBytes != 0)
            {
                continue;
            }

            // The pairs begin at a multiple of their own size.
            int header = table.At - start + (offsetBytes == 4 ? 4 : 12);
            table.Skip((ulong)((16 - (header % 16)) % 16));
            List<AddressRange> ranges = [];
            while (!table.IsAtEnd && info.Limits.TryStep(1))
            {
                ulong low = table.U64(), count = table.U64();
                if (table.Failed || (low == 0 && count == 0))
                {
                    break;
                }

                Add(info, low, low + count, 0, ranges);
            }

            tables[unit] = ranges;
        }

        return tables;
    }

    private static ulong? OffsetOf(DwarfInfo info, DwarfUnit unit, ulong index)
    {
        int bytes = unit.Widths.OffsetBytes;
        if (index > int.MaxValue || unit.RangeListsBase > int.MaxValue)
        {
            return null;
        }

        byte[] section = info.Sections.RangeLists;
        var cursor = new ByteCursor(
            section, (int)Math.Min(unit.RangeListsBase + (index * (ulong)bytes), int.MaxValue), section.Length);
        ulong offset = cursor.Unsigned(bytes);
        return cursor.Failed ? null : unit.RangeListsBase + offset;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ReadPairs(DwarfInfo info, DwarfUnit unit, ulong at, int value, List<AddressRange> ranges)
    {
        byte[] section = info.Sections.Ranges;
        int bytes = unit.Widths.AddressBytes;
        ulong last = bytes == 8 ? ulong.MaxValue : uint.MaxValue;
        ulong from = unit.LowPc;
        var cursor = new ByteCursor(section, (int)Math.Min(at, int.MaxValue), section.Length);
        while (info.Limits.TryStep(1))
        {
            ulong start = cursor.Unsigned(bytes), end = cursor.Unsigned(bytes);
            if (cursor.Failed || (start == 0 && end == 0))
            {
                return;
            }

            if (start == last)
            {
                from = end;
            }
            else
            {
                Add(info, from + start, from + end, value, ranges);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ReadList(DwarfInfo info, DwarfUnit unit, ulong at, int value, List<AddressRange> ranges)
    {
        byte[] section = info.Sections.RangeLists;
        int bytes = unit.Widths.AddressBytes;
        ulong from = unit.LowPc;
        var cursor = new ByteCursor(section, (int)Math.Min(at, int.MaxValue), section.Length);
        while (info.Limits.TryStep(1))
        {
            ulong? start, end;
            switch (cursor.U8())
            {
                case BaseIndex:
                    from = info.IndexedAddress(cursor.Uleb(), unit) ?? 0;
                    continue;
                case BaseAddress:
                    from = cursor.Unsigned(bytes);
                    continue;
                case IndexAndIndex:
                    start = info.IndexedAddress(cursor.Uleb(), unit);
                    end = info.IndexedAddress(cursor.Uleb(), unit);
                    break;
                case IndexAndLength:
                    start = info.IndexedAddress(cursor.Uleb(), unit);
                    end = start + cursor.Uleb();
                    break;
                case OffsetPair:
                    start = from + cursor.Uleb();
                    end = from + cursor.Uleb();
                    break;
                case StartAndEnd:
                    start = cursor.Unsigned(bytes);
                    end = cursor.Unsigned(bytes);
                    break;
                case StartAndLength:
                    start = cursor.Unsigned(bytes);
                    end = start + cursor.Uleb();
                    break;
                case EndOfList:
                default:
                    return;
            }

            if (cursor.Failed)
            {
                return;
            }

            if (start is { } first && end is { } afterLast)
            {
                Add(info, first, afterLast, value, ranges);
            }
        }
    }

    private static void Add(DwarfInfo info, ulong start, ulong end, int value, List<AddressRange> ranges)
    {
        if (end > start && info.Code.Holds(start) && info.Limits.TryAddRange())
        {
            ranges.Add(new AddressRange(start, end, value));
        }
    }
}
