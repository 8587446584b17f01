using System.Numerics;

namespace NativeLeaks.Heap.Managed;

/// <summary>
/// Tells which object, live or dead, an address lies in. A part of the heap is walked from its first object on when somebody
/// first asks about an address in it. Not thread-safe.
/// </summary>
internal sealed unsafe class ObjectStarts : IDisposable
{
    private const ulong MinObjectBytes = 3 * sizeof(ulong);

    private readonly HeapImage _image;
    private readonly MethodTables _tables;
    private readonly Dictionary<ulong, ulong> _contexts = [];
    private readonly ulong[] _contextStarts;
    private readonly bool[] _isWalked;
    private readonly NativeBuffer _buffer;
    private readonly ulong* _starts;

    public ObjectStarts(HeapImage image, MethodTables tables, (ulong Next, ulong End)[] allocationContexts)
    {
        _image = image;
        _tables = tables;
        foreach ((ulong next, ulong end) in allocationContexts)
        {
            _contexts[next] = Math.Max(_contexts.GetValueOrDefault(next), end);
        }

        _contextStarts = [.. _contexts.Keys.Order()];
        _isWalked = new bool[image.Segments];
        _buffer = new NativeBuffer((image.Bytes / 64) + sizeof(ulong));
        _starts = (ulong*)_buffer.Start;
    }

    /// <summary>The object's first byte; 0: there is none.</summary>
    /// <exception cref="TornCopyException">The objects do not follow each other as they must.</exception>
    public ulong Find(ulong address)
    {
        int segment = _image.SegmentAt(address);
        if (segment < 0)
        {
            return 0;
        }

        WalkOnce(segment);
        address &= ~7UL;
        ulong first = _image.WordAt(segment, _image.StartOf(segment));
        ulong word = _image.WordAt(segment, address);
        ulong bits = _starts[word >> 6] & (ulong.MaxValue >> (63 - (int)(word & 63)));
        while (bits == 0 && (word >> 6) > (first >> 6))
        {
            word = (word | 63) - 64;
            bits = _starts[word >> 6];
        }

        ulong found = bits == 0 ? 0 : (word & ~63UL) + (uint)BitOperations.Log2(bits);
        if (bits == 0 || found < first)
        {
            return 0;
        }

        ulong start = _image.StartOf(segment) + ((found - first) * sizeof(ulong));
        return address < start + BytesOf(segment, start, out _) ? start : 0;
    }

    /// <summary>All objects of a type in the segments of a kind.</summary>
    /// <exception cref="TornCopyException">The objects do not follow each other as they must.</exception>
    public IEnumerable<ulong> AllOf(SegmentKind kind, ulong type)
    {
        for (int segment = 0; segment < _image.Segments; segment++)
        {
            if (_image.KindOf(segment) != kind)
            {
                continue;
            }

            WalkOnce(segment);
            for (ulong at = _image.StartOf(segment); at < _image.EndOf(segment); at += sizeof(ulong))
            {
                if (IsStart(segment, at) && _image.TryReadWord(at, out ulong found) && found == type)
                {
                    yield return at;
                }
            }
        }
    }

    public void Dispose() => _buffer.Dispose();

    private bool IsStart(int segment, ulong at)
    {
        ulong word = _image.WordAt(segment, at);
        return (_starts[word >> 6] & (1UL << (int)(word & 63))) != 0;
    }

    private void WalkOnce(int segment)
    {
        if (!_isWalked[segment])
        {
            Walk(segment);
            _isWalked[segment] = true;
        }
    }

    private void Walk(int segment)
    {
        ulong end = _image.EndOf(segment);
        for (ulong at = _image.StartOf(segment); at < end;)
        {
            if (_contexts.TryGetValue(at, out ulong contextEnd))
            {
                at = Behind(at, contextEnd);
                continue;
            }

            if (end - at < MinObjectBytes)
            {
                throw new TornCopyException("An object is longer than its part of the heap.");
            }

            if (*(ulong*)_image.At(segment, at) == 0)
            {
                // An object that its thread has room for and has not begun, or not finished. What the thread has left follows it.
                at = Skip(at, end);
                continue;
            }

            ulong bytes = BytesOf(segment, at, out bool isFree);
            if (!isFree)
            {
                ulong word = _image.WordAt(segment, at);
                _starts[word >> 6] |= 1UL << (int)(word & 63);
            }

            at += (bytes + 7) & ~7UL;
        }
    }

    // The collector keeps room for one more object behind what it gave to a thread.
    private static ulong Behind(ulong at, ulong contextEnd) =>
        contextEnd >= at && contextEnd < at + (1UL << 40)
            ? ((contextEnd + 7) & ~7UL) + MinObjectBytes
            : throw new TornCopyException("A thread's part of the heap is impossible.");

    private ulong Skip(ulong at, ulong end)
    {
        int next = Array.BinarySearch(_contextStarts, at);
        next = next < 0 ? ~next : next;
        return next < _contextStarts.Length && _contextStarts[next] < end
            ? _contextStarts[next]
            : throw new TornCopyException("What should be an object has no type.");
    }

    private ulong BytesOf(int segment, ulong at, out bool isFree)
    {
        byte* start = _image.At(segment, at);
        ref MethodTable table = ref _tables.At(*(ulong*)start);
        ulong bytes = table.BaseBytes + ((ulong)table.ComponentBytes * (table.HasComponents ? *(uint*)(start + sizeof(ulong)) : 0));
        isFree = table.IsFree;
        return bytes <= _image.EndOf(segment) - at ? bytes : throw new TornCopyException("An object is longer than its part of the heap.");
    }
}
