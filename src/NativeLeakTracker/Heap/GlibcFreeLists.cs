using System.Buffers.Binary;

namespace NativeLeaks.Heap;

/// <summary>
/// Chunks that malloc keeps for later although the chunk behind them says that they are in use: those of the fastbins, and those of each
/// thread's own cache (tcache). Both are lists through the chunks themselves; since glibc 2.32 a link is masked with its own address.
/// </summary>
/// <param name="memory">The memory.</param>
/// <param name="chunks">All that look as if they were in use, by address.</param>
internal sealed class GlibcFreeLists(FrozenMemory memory, IReadOnlyList<NativeNode> chunks)
{
    // More than any cache keeps of one size (glibc.malloc.tcache_count is 16 bits).
    private const int MaxCached = 1 << 16;

    private readonly bool[] _isFree = new bool[chunks.Count];
    private readonly WordWindow _words = new(memory, 64);
    private readonly List<string> _doubts = [];

    public IReadOnlyList<string> Doubts => _doubts;

    /// <summary>Those that are on no list.</summary>
    public List<NativeNode> Remaining()
    {
        List<NativeNode> remaining = new(chunks.Count);
        for (int i = 0; i < chunks.Count; i++)
        {
            if (!_isFree[i])
            {
                remaining.Add(chunks[i]);
            }
        }

        return remaining;
    }

    public void TakeFastbins(GlibcArena arena)
    {
        for (int bin = 0; bin < GlibcArena.FastbinCount; bin++)
        {
            ulong first = arena.Fastbin(bin);
            if (first != 0 && Follow(first + GlibcChunkWalk.HeaderBytes, SizeOfBin(bin), GlibcChunkWalk.HeaderBytes, chunks.Count) is { } list)
            {
                Take(list);
            }
            else if (first != 0)
            {
                _doubts.Add($"a list of free chunks (fastbin {bin} of the arena at 0x{arena.Address:x}) is damaged");
            }
        }
    }

    /// <summary>
    /// Finds the caches, which are chunks of a known size, by their content; returns where they are. Behind its link each cached chunk has a
    /// key: the address of the cache, since glibc 2.34 a number that is drawn once for the process. A program's own table of blocks
    /// looks like a cache but for that.
    /// </summary>
    public List<NativeNode> TakeThreadCaches()
    {
        List<(int Chunk, ulong Key, List<List<int>> Lists)> candidates = [];
        Span<byte> content = stackalloc byte[ThreadCacheLayout.Large.Bytes];
        for (int i = 0; i < chunks.Count; i++)
        {
            if (ThreadCacheLayout.Of(chunks[i].Bytes) is { } layout && !_isFree[i] &&
                memory.Read(chunks[i].Start, content[..layout.Bytes]) == layout.Bytes && ListsOf(content, layout, out ulong key) is { } lists)
            {
                candidates.Add((i, key, lists));
            }
        }

        ulong drawn = candidates.Count == 0 ? 0 : candidates
            .GroupBy(static candidate => candidate.Key, static candidate => candidate.Lists.Sum(static list => list.Count))
            .MaxBy(static group => group.Sum())!.Key;
        List<NativeNode> caches = [];
        foreach ((int chunk, ulong key, List<List<int>> lists) in candidates)
        {
            if (key == drawn || key == chunks[chunk].Start)
            {
                lists.ForEach(Take);
                _isFree[chunk] = true;
                caches.Add(chunks[chunk]);
            }
        }

        return caches;
    }

    private void Take(List<int> list) => list.ForEach(chunk => _isFree[chunk] = true);

    /// <summary>
    /// Null: it is no cache. It may be one if each list leads through chunks of the right size, no more than it counts, and all carry the same
    /// key. A thread may stand between two writes, so a count may be off by one; one that ends frees what it cached without counting. A
    /// cache without lists is like any other chunk: it holds nothing.
    /// </summary>
    private List<List<int>>? ListsOf(ReadOnlySpan<byte> content, ThreadCacheLayout layout, out ulong key)
    {
        List<List<int>> lists = [];
        key = 0;
        for (int bin = 0; bin < layout.Bins; bin++)
        {
            int count = BinaryPrimitives.ReadUInt16LittleEndian(content[(bin * 2)..]);
            ulong first = BinaryPrimitives.ReadUInt64LittleEndian(content[(layout.EntriesAt + (bin * 8))..]);
            List<int>? list = first == 0 ? [] : Follow(first, layout.IsExact(bin) ? SizeOfBin(bin) : 0, 0, MaxCached);
            if (list is null || (!layout.CountsRoom && count < list.Count - 1) || !HaveSameKey(list, ref key))
            {
                return null;
            }

            if (list.Count > 0)
            {
                lists.Add(list);
            }
        }

        return lists.Count > 0 ? lists : null;
    }

    private bool HaveSameKey(List<int> list, ref ulong key)
    {
        foreach (int chunk in list)
        {
            if (!_words.TryRead(chunks[chunk].Start + 8, out ulong own) || own == 0 || (key != 0 && own != key))
            {
                return false;
            }

            key = own;
        }

        return true;
    }

    /// <summary>
    /// The chunks of a list, as indexes. Null: it leads to what is no chunk in use of that size, or in a circle.
    /// </summary>
    /// <param name="first">Where the first may be used by a program.</param>
    /// <param name="size">Of each chunk with its header; 0: any.</param>
    /// <param name="linkTo">How far before that place links point.</param>
    /// <param name="most">No list is longer.</param>
    private List<int>? Follow(ulong first, ulong size, ulong linkTo, int most)
    {
        List<int> list = [];
        for (ulong at = first; ;)
        {
            int index = IndexOf(at, size);
            if (index < 0 || list.Count == most || !_words.TryRead(at, out ulong link))
            {
                return null;
            }

            list.Add(index);
            ulong unmasked = link ^ (at >> 12);
            if (link == 0 || unmasked == 0)
            {
                return list;
            }

            // Which of the two it is, the glibc's version decides; only one leads to a chunk.
            at = IndexOf(unmasked + linkTo, size) >= 0 ? unmasked + linkTo : link + linkTo;
        }
    }

    private int IndexOf(ulong start, ulong size)
    {
        int low = 0, high = chunks.Count - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            NativeNode chunk = chunks[middle];
            if (chunk.Start == start)
            {
                return size == 0 || chunk.Bytes + 8 == size ? middle : -1;
            }

            (low, high) = chunk.Start < start ? (middle + 1, high) : (low, middle - 1);
        }

        return -1;
    }

    private static ulong SizeOfBin(int bin) => GlibcChunkWalk.SmallestChunk + ((ulong)bin * 16);

    /// <summary>How a thread's cache is laid out: counters of 16 bits (since 2.42 of how many more may come), then the lists.</summary>
    private readonly record struct ThreadCacheLayout(int Bins, int ExactBins, bool CountsRoom)
    {
        /// <summary>Until 2.41.</summary>
        public static readonly ThreadCacheLayout Small = new(64, 64, CountsRoom: false);

        /// <summary>2.42, with 12 lists of larger chunks.</summary>
        public static readonly ThreadCacheLayout Large = new(76, 64, CountsRoom: true);

        public int EntriesAt => Bins * 2;

        public int Bytes => Bins * 10;

        public bool IsExact(int bin) => bin < ExactBins;

        /// <summary>
        /// By what may be used of the chunk: 16 bytes more than asked for where what was left of a larger one would have been too small for a chunk
        /// (malloc.c, MINSIZE).
        /// </summary>
        public static ThreadCacheLayout? Of(ulong bytes) => bytes switch
        {
            648 or 664 => Small,
            760 or 776 => Large,
            _ => null,
        };
    }
}
