using System.Runtime.CompilerServices;

namespace NativeLeaks.Heap.Managed;

/// <summary>
/// The memory of all objects, copied once more so that it can be read without a system call for each word. Not thread-safe.
/// </summary>
internal sealed unsafe class HeapImage : IDisposable
{
    private const int GranuleShift = 22; // regions are 4 MB or a multiple of that
    private const int WordShift = 3;
    private const int PieceBytes = 1 << 28;

    private readonly Segment[] _segments;
    private readonly (ulong Granule, int First)[] _table;
    private readonly int _mask;
    private readonly NativeBuffer _buffer;
    private readonly byte* _start;

    private HeapImage(Segment[] segments, NativeBuffer buffer, ulong bytes)
    {
        _segments = segments;
        _buffer = buffer;
        _start = buffer.Start;
        Bytes = bytes;

        long granules = segments.Sum(static s => (long)((s.End - 1) >> GranuleShift) - (long)(s.Start >> GranuleShift) + 1);
        _table = new (ulong, int)[(int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Min((2 * granules) + 1, 1 << 28))];
        _mask = _table.Length - 1;
        for (int i = 0; i < segments.Length; i++)
        {
            for (ulong granule = segments[i].Start >> GranuleShift; granule <= (segments[i].End - 1) >> GranuleShift; granule++)
            {
                int slot = SlotOf(granule);
                if (_table[slot].Granule == 0)
                {
                    _table[slot] = (granule + 1, i);
                }
            }
        }
    }

    /// <summary>Of all segments.</summary>
    public ulong Bytes { get; }

    public int Segments => _segments.Length;

    /// <summary>Where the segments lie, by address.</summary>
    public IEnumerable<AddressRange> Ranges => _segments.Select(static s => new AddressRange(s.Start, s.End));

    /// <exception cref="TornCopyException">The segments cannot be what they are said to be.</exception>
    /// <exception cref="HeapUnavailableException">There is not enough memory for a copy.</exception>
    public static HeapImage Read(FrozenMemory memory, IEnumerable<(ulong Start, ulong End, int Kind)> ranges)
    {
        ulong total = 0;
        ulong before = 0;
        List<Segment> segments = [];
        foreach ((ulong start, ulong end, int kind) in ranges.Where(static r => r.End > r.Start).OrderBy(static r => r.Start))
        {
            if (start < before || (start & 7) != 0 || (end & 7) != 0 || !IsMapped(memory, start, end))
            {
                throw new TornCopyException("The parts of the managed heap overlap, or are not mapped.");
            }

            segments.Add(new Segment(start, end, (SegmentKind)kind, total));
            total += end - start;
            before = end;
        }

        if (total == 0)
        {
            throw new TornCopyException("The managed heap has no parts.");
        }

        GCMemoryInfo machine = GC.GetGCMemoryInfo();
        long available = machine.TotalAvailableMemoryBytes - machine.MemoryLoadBytes;
        if (total > (ulong)Math.Max(available, 0) && total > 1UL << 28)
        {
            throw new HeapUnavailableException(
                $"the managed heap has {total >> 20} MB, and there is no memory left for a copy of it");
        }

        var buffer = new NativeBuffer(total);
        try
        {
            Populate.ForWriting((ulong)buffer.Start, total);
            foreach (Segment segment in segments)
            {
                Fill(memory, segment, buffer.Start + segment.Place);
            }

            return new HeapImage([.. segments], buffer, total);
        }
        catch
        {
            buffer.Dispose();
            throw;
        }
    }

    /// <summary>The segment that holds an address; -1 when there is none.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int SegmentAt(ulong address)
    {
        ulong granule = address >> GranuleShift;
        (ulong found, int index) = _table[SlotOf(granule)];
        if (found == 0)
        {
            return -1;
        }

        // More than one may share a granule; they are by address.
        for (; index < _segments.Length && address >= _segments[index].Start; index++)
        {
            if (address < _segments[index].End)
            {
                return index;
            }
        }

        return -1;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* At(int segment, ulong address)
    {
        ref readonly Segment s = ref _segments[segment];
        return _start + s.Place + (address - s.Start);
    }

    /// <summary>How many words lie before this one; different for all words of all segments.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong WordAt(int segment, ulong address)
    {
        ref readonly Segment s = ref _segments[segment];
        return (s.Place + (address - s.Start)) >> WordShift;
    }

    /// <summary>False: no object can be there.</summary>
    public bool TryReadWord(ulong address, out ulong word)
    {
        int segment = SegmentAt(address);
        bool isRead = segment >= 0 && (address & 7) == 0;
        word = isRead ? *(ulong*)At(segment, address) : 0;
        return isRead;
    }

    public ulong StartOf(int segment) => _segments[segment].Start;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong EndOf(int segment) => _segments[segment].End;

    public SegmentKind KindOf(int segment) => _segments[segment].Kind;

    public void Dispose() => _buffer.Dispose();

    private static bool IsMapped(FrozenMemory memory, ulong start, ulong end)
    {
        while (start < end && MemoryMap.At(memory.Mappings, start) is var mapping && mapping.End > start)
        {
            start = mapping.End;
        }

        return start >= end;
    }

    private static void Fill(FrozenMemory memory, in Segment segment, byte* place)
    {
        for (ulong address = segment.Start; address < segment.End;)
        {
            int wanted = (int)Math.Min(segment.End - address, PieceBytes);
            if (memory.Read(address, new Span<byte>(place, wanted)) != wanted)
            {
                throw new TornCopyException("A part of the managed heap is not mapped.");
            }

            address += (ulong)wanted;
            place += wanted;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private int SlotOf(ulong granule)
    {
        // The table is never full: an empty slot ends every search.
        int slot = (int)((granule * 0x9E3779B97F4A7C15) >> 40) & _mask;
        while (_table[slot].Granule != 0 && _table[slot].Granule != granule + 1)
        {
            slot = (slot + 1) & _mask;
        }

        return slot;
    }

    private readonly record struct Segment(ulong Start, ulong End, SegmentKind Kind, ulong Place);
}
