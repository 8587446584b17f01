namespace NativeLeaks.Heap;

/// <summary>A run of chunks, each of which leads to the next.</summary>
/// <param name="Start">The first chunk.</param>
/// <param name="End">One past the last: the top chunk, or the fence at the end of what was full.</param>
internal readonly record struct GlibcRegion(ulong Start, ulong End);

/// <summary>Where an arena's chunks are.</summary>
/// <remarks>
/// The main arena grows the program's own heap (brk). Each other arena has heaps of 64 MB of address space, which begin with a header
/// and name the heap before: <code>0 arena, 8 previous heap, 16 size, 24 size that may be written, (2.35 and later: 32 page size)</code>
/// </remarks>
internal sealed class GlibcRegions
{
    private const ulong HeapBytes = 64UL << 20;
    private const ulong FarthestPart = 1 << 20;
    private const ulong PageBytes = 4096;
    private const int MaxHeaps = 1 << 16;
    private readonly List<GlibcRegion> _all = [];
    private readonly List<NativeNode> _headers = [];
    private readonly List<string> _doubts = [];
    private ulong _own, _spanned;

    private GlibcRegions()
    {
    }

    public IReadOnlyList<GlibcRegion> All => _all;

    /// <summary>The headers of heaps.</summary>
    public IReadOnlyList<NativeNode> Headers => _headers;

    public IReadOnlyList<string> Doubts => _doubts;

    public static GlibcRegions Of(GlibcArena arena, FrozenMemory memory, WordWindow words)
    {
        var regions = new GlibcRegions();
        if (arena.IsMain)
        {
            regions.AddMain(arena, memory, words);
        }
        else if (!regions.TryAddHeaps(arena, words))
        {
            regions._doubts.Add($"the heaps of malloc's arena at 0x{arena.Address:x} do not add up");
        }

        return regions;
    }

    /// <summary>
    /// Where somebody else moved the break, or something is in its way, the heap has several parts: a fence ends each but the one with the
    /// top, and nothing says where the next begins but that its chunks lead to a fence or to the top.
    /// </summary>
    private void AddMain(GlibcArena arena, FrozenMemory memory, WordWindow words)
    {
        if (arena.Top == 0)
        {
            return;
        }

        foreach ((ulong start, ulong end) in Brk(memory))
        {
            AddParts(arena.Top, words, start, end, step: 16);
        }

        // Without the break, malloc maps what it needs, a megabyte or more at a time.
        foreach (MemoryMapping mapping in memory.Mappings.Where(mapping => IsUnfinished(arena) && GlibcMappedChunks.IsCandidate(mapping)))
        {
            AddParts(arena.Top, words, mapping.Start, mapping.End, PageBytes);
        }

        if (IsUnfinished(arena) && !arena.IsLocked)
        {
            _doubts.Add($"{_own} of the {arena.SystemBytes} bytes of malloc's main heap were found");
        }
    }

    // What another's use of the break took counts as the heap's.
    private bool IsUnfinished(GlibcArena arena) => _own != arena.SystemBytes && _spanned != arena.SystemBytes;

    private void AddParts(ulong top, WordWindow words, ulong start, ulong end, ulong step)
    {
        ulong first = 0, last = start;
        for (ulong at = start; at < end && at - last <= FarthestPart;)
        {
            ulong stop = GlibcChunkWalk.FindStop(words, at, end, top);
            if (stop == 0 || (stop == at && at != top) || !words.TryRead(stop + 8, out ulong head))
            {
                at += step;
                continue;
            }

            _all.Add(new GlibcRegion(at, stop));
            first = first == 0 ? at : first;
            last = stop + (stop == top ? head & ~GlibcChunkWalk.FlagBits : GlibcChunkWalk.FenceBytes);
            if (last <= at || last > end)
            {
                return;
            }

            _own += last - at;
            at = last;
        }

        _spanned += first == 0 ? 0 : last - first;
    }

    /// <summary>The break may have been protected in pieces.</summary>
    private static IEnumerable<(ulong Start, ulong End)> Brk(FrozenMemory memory)
    {
        (ulong start, ulong end) = (0, 0);
        foreach (MemoryMapping mapping in memory.Mappings.Where(static mapping => mapping.Path == "[heap]"))
        {
            start = start == 0 ? mapping.Start : start;
            end = mapping.End;
        }

        return end > start ? [(start, end)] : [];
    }

    private bool TryAddHeaps(GlibcArena arena, WordWindow words)
    {
        if (arena.Top == 0 || FirstHeap(arena, words) is not { } first)
        {
            return false;
        }

        ulong headerBytes = arena.Address - first.Heap;
        ulong heap = arena.Top & ~(first.MaxBytes - 1), sum = 0, end = arena.Top;
        for (int i = 0; i < MaxHeaps; i++)
        {
            if (!words.TryRead(heap, out ulong owner) || !words.TryRead(heap + 8, out ulong previous) || !words.TryRead(heap + 16, out ulong size) ||
                owner != arena.Address || size > first.MaxBytes || heap % first.MaxBytes != 0)
            {
                return false;
            }

            bool isFirst = heap == first.Heap;
            ulong start = isFirst ? (arena.Address + GlibcArena.StateBytes + 15) & ~15UL : heap + headerBytes;
            bool isTop = i == 0;
            if (!isTop)
            {
                end = GlibcChunkWalk.FindStop(words, start, heap + size, top: 0);
            }

            if (end < start || end > heap + size)
            {
                return false;
            }

            _headers.Add(new NativeNode(heap, headerBytes));
            _all.Add(new GlibcRegion(start, end));
            sum += size;
            if (isFirst)
            {
                return sum == arena.SystemBytes || arena.IsLocked;
            }

            heap = previous;
        }

        return false;
    }

    // Larger heaps: glibc.malloc.hugetlb.
    private static (ulong Heap, ulong MaxBytes)? FirstHeap(GlibcArena arena, WordWindow words)
    {
        for (ulong bytes = HeapBytes; bytes <= HeapBytes << 6; bytes <<= 1)
        {
            ulong heap = arena.Address & ~(bytes - 1);
            if (arena.Address - heap is >= 32 and <= 64 && words.TryRead(heap, out ulong owner) && owner == arena.Address)
            {
                return (heap, bytes);
            }
        }

        return null;
    }
}
