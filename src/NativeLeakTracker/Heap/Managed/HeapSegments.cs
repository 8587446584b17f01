using System.Runtime.InteropServices;

namespace NativeLeaks.Heap.Managed;

/// <summary>
/// The parts of the managed heap in which objects are, read in one go into memory of our own, with a mark for each word. Disposing frees it.
/// For one caller at a time.
/// </summary>
internal sealed unsafe class HeapSegments : IDisposable
{
    private readonly Segment[] _segments;
    private int _last;

    /// <exception cref="TornCopyException">A part cannot be read, or two overlap.</exception>
    public HeapSegments(FrozenMemory memory, IEnumerable<(ulong Start, ulong End, int Kind)> segments)
    {
        List<Segment> read = [];
        try
        {
            ulong end = 0;
            foreach ((ulong segmentStart, ulong segmentEnd, int kind) in segments)
            {
                if (segmentEnd <= segmentStart)
                {
                    continue;
                }

                if (segmentStart < end || segmentStart % sizeof(ulong) != 0)
                {
                    throw new TornCopyException("parts of the managed heap overlap");
                }

                end = segmentEnd;
                read.Add(new Segment(memory, segmentStart, segmentEnd & ~7UL, (SegmentKind)kind));
            }

            _segments = [.. read];
        }
        catch
        {
            read.ForEach(static s => s.Dispose());
            throw;
        }
    }

    public int Count => _segments.Length;

    public Segment this[int index] => _segments[index];

    /// <summary>All address space of the collector's: between its parts there is nothing of anybody else.</summary>
    public AddressRange Whole => _segments.Length == 0 ? default : new AddressRange(_segments[0].Start, _segments[^1].End);

    /// <summary>The part that an address lies in; null when it is in none.</summary>
    public Segment? At(ulong address)
    {
        if (_segments.Length == 0)
        {
            return null;
        }

        Segment segment = _segments[_last];
        if (address - segment.Start < segment.End - segment.Start)
        {
            return segment;
        }

        int low = 0, high = _segments.Length;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (_segments[middle].Start <= address)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        if (low == 0 || address >= _segments[low - 1].End)
        {
            return null;
        }

        _last = low - 1;
        return _segments[_last];
    }

    public void Dispose()
    {
        foreach (Segment segment in _segments)
        {
            segment.Dispose();
        }
    }

    /// <summary>One part.</summary>
    internal sealed class Segment : IDisposable
    {
        private byte* _memory;
        private ulong* _marks;

        public Segment(FrozenMemory memory, ulong start, ulong end, SegmentKind kind)
        {
            (Start, End, Kind) = (start, end, kind);
            _memory = (byte*)NativeMemory.Alloc((nuint)(end - start));
            _marks = (ulong*)NativeMemory.AllocZeroed((nuint)(((end - start) / 512) + 1), sizeof(ulong));
            const int Piece = 1 << 30;
            for (ulong at = start; at < end;)
            {
                int bytes = (int)Math.Min(end - at, Piece);
                if (memory.Read(at, new Span<byte>(_memory + (at - start), bytes)) < bytes)
                {
                    Dispose();
                    throw new TornCopyException("a part of the managed heap is not there");
                }

                at += (ulong)bytes;
            }
        }

        public ulong Start { get; }

        public ulong End { get; }

        public SegmentKind Kind { get; }

        /// <summary>Where objects begin, by page; null until somebody asked.</summary>
        public int[]? FirstObjects { get; set; }

        /// <summary>The memory from an address in this part on.</summary>
        public byte* Memory(ulong address) => _memory + (address - Start);

        /// <summary>False: the object was marked before.</summary>
        public bool TryMark(ulong address)
        {
            ulong word = (address - Start) / sizeof(ulong);
            ref ulong marks = ref _marks[word / 64];
            ulong bit = 1UL << (int)(word % 64);
            bool isNew = (marks & bit) == 0;
            marks |= bit;
            return isNew;
        }

        public bool IsMarked(ulong address)
        {
            ulong word = (address - Start) / sizeof(ulong);
            return (_marks[word / 64] & (1UL << (int)(word % 64))) != 0;
        }

        public void Dispose()
        {
            NativeMemory.Free(_memory);
            NativeMemory.Free(_marks);
            _memory = null;
            _marks = null;
        }
    }
}
