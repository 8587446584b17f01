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
    private const int MaxHeaps = 1 << 16;
    private readonly List<GlibcRegion> _all = [];
    private readonly List<NativeNode> _headers = [];
    private readonly List<string> _doubts = [];

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

        List<(ulong Start, ulong End)> pieces = [.. Brk(memory)];
        if (!pieces.Exists(piece => arena.Top >= piece.Start && arena.Top < piece.End))
        {
            MemoryMapping mapping = MemoryMap.At(memory.Mappings, arena.Top);
            pieces.Add((mapping.Start, mapping.End));
        }

        ulong own = 0, spanned = 0;
        foreach ((ulong start, ulong end) in pieces)
        {
            ulong last = start, first = 0;
            for (ulong at = start; at < end && at - last <= FarthestPart;)
            {
                ulong stop = GlibcChunkWalk.FindStop(words, at, end, arena.Top);
                if (stop <= at || !words.TryRead(stop + 8, out ulong head))
                {
                    at += 16;
                    continue;
                }

                _all.Add(new GlibcRegion(at, stop));
                first = first == 0 ? at : first;
                last = stop + (stop == arena.Top ? head & ~GlibcChunkWalk.FlagBits : GlibcChunkWalk.FenceBytes);
                own += last - at;
                at = last;
            }

            spanned += first == 0 ? 0 : last - first;
        }

        // What another's use of the break took counts as the heap's.
        if (own != arena.SystemBytes && spanned != arena.SystemBytes && !arena.IsLocked)
        {
            _doubts.Add($"{own} of the {arena.SystemBytes} bytes of malloc's main heap were found");
        }
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
