using System.Runtime.InteropServices;

namespace NativeLeaks.Heap;

/// <summary>
/// Large chunks, which malloc maps by themselves: anonymous memory that begins with a chunk's header. Nothing links them, but malloc
/// counts them (<c>n_mmaps</c>, <c>mmapped_mem</c>), which says whether all were found, and no other memory was taken for one.
/// </summary>
internal static class GlibcMappedChunks
{
    private const ulong PageBytes = 4096, HeaderBytes = GlibcChunkWalk.HeaderBytes;
    private const ulong ArenaHeapBytes = 64UL << 20;

    public static List<NativeNode> Find(FrozenMemory memory, IReadOnlyList<GlibcArena> arenas, AddressRanges others, List<string> doubts)
    {
        var words = new WordWindow(memory, (int)HeaderBytes);
        AddressRange[] candidates =
        [
            .. memory.Mappings.Where(mapping => IsCandidate(mapping) && !IsHeap(mapping, arenas))
                .SelectMany(mapping => others.Outside(new AddressRange(mapping.Start, mapping.End)))
                .Select(static range => range with { Start = (range.Start + PageBytes - 1) & ~(PageBytes - 1) }),
        ];
        (long Count, ulong Bytes)? expected = Counted(memory);
        List<NativeNode> found = [];
        if (expected is { Count: 0 })
        {
            return found;
        }

        // The kernel makes one mapping of several that touch. Mostly ours come first, because new ones are put below old ones.
        foreach (AddressRange range in candidates)
        {
            AddRun(memory, words, range.Start, range.End, found, everywhere: false);
        }

        if (expected is null || IsAll(found, expected.Value))
        {
            return found;
        }

        List<NativeNode> more = [];
        foreach (AddressRange range in candidates)
        {
            AddRun(memory, words, range.Start, range.End, more, everywhere: true);
        }

        if (IsAll(more, expected.Value))
        {
            return more;
        }

        doubts.Add($"malloc counts {expected.Value.Count} large chunks, and {found.Count} were found");
        return found;
    }

    /// <summary>Memory that malloc may have mapped.</summary>
    public static bool IsCandidate(MemoryMapping mapping) =>
        !mapping.IsShared && mapping.Protection == (MemoryProtection.Read | MemoryProtection.Write) &&
        (mapping.Path.Length == 0 || mapping.Path.StartsWith("[anon: glibc: malloc", StringComparison.Ordinal));

    private static bool IsHeap(MemoryMapping mapping, IReadOnlyList<GlibcArena> arenas) =>
        arenas.Any(arena => !arena.IsMain && (arena.Address & ~(ArenaHeapBytes - 1)) == mapping.Start);

    /// <summary>From the start as long as chunk touches chunk, or whatever page one begins at.</summary>
    private static void AddRun(FrozenMemory memory, WordWindow words, ulong start, ulong end, List<NativeNode> found, bool everywhere)
    {
        const ulong Pages = 1 << 14;
        bool[] present = [];
        ulong first = 0;
        for (ulong at = start; at < end;)
        {
            // A header was written: a page that nobody touched has none.
            if (everywhere && (at - first) / PageBytes >= (ulong)present.Length)
            {
                first = at;
                present = memory.PresentPages(at, Math.Min(end, at + (Pages * PageBytes)));
            }

            if (everywhere && !present[(at - first) / PageBytes])
            {
                at += PageBytes;
            }
            else if (words.TryRead(at, out ulong before) && words.TryRead(at + 8, out ulong head) && before == 0 && IsMappedSize(head, at, end, out ulong size))
            {
                found.Add(Aligned(words, at, size));
                at += size;
            }
            else if (everywhere)
            {
                at += PageBytes;
            }
            else
            {
                return;
            }
        }
    }

    private static bool IsMappedSize(ulong head, ulong at, ulong end, out ulong size)
    {
        size = head & ~GlibcChunkWalk.FlagBits;
        return (head & GlibcChunkWalk.FlagBits) == GlibcChunkWalk.Mapped && size >= PageBytes && size % PageBytes == 0 && size <= end - at;
    }

    /// <summary>Of an aligned block, the chunk was moved up to where the block begins; it says how far, and the old header stays behind.</summary>
    private static NativeNode Aligned(WordWindow words, ulong mapping, ulong size)
    {
        for (ulong alignment = 32; alignment < size; alignment <<= 1)
        {
            ulong block = (mapping + HeaderBytes + alignment - 1) & ~(alignment - 1), chunk = block - HeaderBytes;
            for (int i = 0; i < 2; i++, chunk += alignment)
            {
                ulong lead = chunk - mapping;
                if (lead > 0 && lead < size && words.TryRead(chunk, out ulong before) && before == lead &&
                    words.TryRead(chunk + 8, out ulong head) && head == ((size - lead) | GlibcChunkWalk.Mapped))
                {
                    return new NativeNode(chunk + HeaderBytes, size - lead - HeaderBytes);
                }
            }
        }

        return new NativeNode(mapping + HeaderBytes, size - HeaderBytes);
    }

    // A chunk that was moved up says less than it takes.
    private static bool IsAll(List<NativeNode> found, (long Count, ulong Bytes) expected) =>
        found.Count == expected.Count &&
        found.Aggregate(0UL, static (sum, node) => sum + (((node.End + PageBytes - 1) & ~(PageBytes - 1)) - ((node.Start - HeaderBytes) & ~(PageBytes - 1)))) <= expected.Bytes;

    /// <summary>
    /// What malloc counts, in its parameters: <c>int n_mmaps, n_mmaps_max, max_n_mmaps, no_dyn_threshold; size_t mmapped_mem,
    /// max_mmapped_mem; char *sbrk_base</c>. The last is where the heap begins, and so finds the others. Null: not found.
    /// </summary>
    private static (long Count, ulong Bytes)? Counted(FrozenMemory memory)
    {
        ulong heap = memory.Mappings.FirstOrDefault(static mapping => mapping.Path == "[heap]").Start;
        if (heap == 0)
        {
            return null;
        }

        foreach (MemoryMapping mapping in GlibcArena.LibcData(memory))
        {
            var words = new RawWord[(mapping.End - mapping.Start) / sizeof(ulong)];
            int count = memory.Read(mapping.Start, MemoryMarshal.AsBytes(words.AsSpan())) / sizeof(ulong);
            Span<uint> halves = MemoryMarshal.Cast<RawWord, uint>(words.AsSpan());
            for (int i = 5; i < count; i++)
            {
                // A word for padding stands before mmapped_mem since 2.35.
                (ulong bytes, ulong mostBytes) = (words[i - 2].Value, words[i - 1].Value);
                for (int first = (2 * i) - 9; words[i] == heap && first <= (2 * i) - 8; first++)
                {
                    (uint now, uint limit, uint most) = (halves[first], halves[first + 1], halves[first + 2]);
                    if (now <= most && most <= limit && bytes <= mostBytes && bytes % PageBytes == 0 && mostBytes % PageBytes == 0)
                    {
                        return (now, bytes);
                    }
                }
            }
        }

        return null;
    }
}
