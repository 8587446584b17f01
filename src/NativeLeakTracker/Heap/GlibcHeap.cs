namespace NativeLeaks.Heap;

/// <summary>
/// What glibc's malloc has handed out, and where it keeps its own state, read from frozen memory: the layouts of glibc 2.31 to 2.42.
/// Nothing that is read is believed: what does not add up is a doubt or a reason, and no loop is longer than what it walks through.
/// </summary>
internal sealed class GlibcHeap
{
    private GlibcHeap(
        IReadOnlyList<NativeNode> chunksInUse,
        IReadOnlyList<NativeNode> allocatorState,
        IReadOnlyList<AddressRange> mappings,
        bool isBusy,
        IReadOnlyList<string> doubts)
    {
        ChunksInUse = chunksInUse;
        AllocatorState = allocatorState;
        Mappings = mappings;
        IsBusy = isBusy;
        Doubts = doubts;
    }

    /// <summary>What the program holds, by address: the bytes that it may use. What malloc keeps for later (tcaches, fastbins, bins, top)
    /// is left out.</summary>
    public IReadOnlyList<NativeNode> ChunksInUse { get; }

    /// <summary>Memory whose words hold nothing, by address: arenas, headers of heaps, tcaches.</summary>
    public IReadOnlyList<NativeNode> AllocatorState { get; }

    /// <summary>The mappings that chunks are cut from, but for large ones, which are mapped by themselves: nothing else is there.</summary>
    public IReadOnlyList<AddressRange> Mappings { get; }

    /// <summary>A thread stood inside malloc with an arena locked: the lists may be halfway between two states.</summary>
    public bool IsBusy { get; }

    /// <summary>What did not add up; some chunks may be missing then. Empty nearly always.</summary>
    public IReadOnlyList<string> Doubts { get; }

    /// <summary>Costs some ten nanoseconds a chunk. Null: <paramref name="reason"/> says why, as the second half of a sentence.</summary>
    /// <param name="memory">What to read.</param>
    /// <param name="reason">Why it could not be done.</param>
    /// <param name="others">Memory that is known not to be malloc's: to look for chunks there would only take time. Null: none is.</param>
    public static GlibcHeap? TryRead(FrozenMemory memory, out string? reason, AddressRanges? others = null)
    {
        IReadOnlyList<GlibcArena>? arenas = GlibcArena.FindAll(memory, out reason);
        if (arenas is null)
        {
            return null;
        }

        List<string> doubts = [];
        var chunks = new List<NativeNode>();
        var state = new List<NativeNode>();
        var mappings = new List<AddressRange>();
        var words = new WordWindow(memory);
        foreach (GlibcArena arena in arenas)
        {
            state.Add(new NativeNode(arena.Address, GlibcArena.StateBytes));
            GlibcRegions regions = GlibcRegions.Of(arena, memory, words);
            state.AddRange(regions.Headers);
            doubts.AddRange(regions.Doubts);
            foreach (GlibcRegion region in regions.All)
            {
                MemoryMapping mapping = MemoryMap.At(memory.Mappings, region.Start);
                mappings.Add(new AddressRange(mapping.Start, mapping.End));
                if (!GlibcChunkWalk.Walk(words, region, chunks, out ulong stoppedAt))
                {
                    doubts.Add($"a chunk of the heap at 0x{stoppedAt:x} does not lead to the next");
                }
            }
        }

        NativeNode.Sort(chunks);
        var unused = new GlibcFreeLists(memory, chunks);
        foreach (GlibcArena arena in arenas)
        {
            unused.TakeFastbins(arena);
        }

        state.AddRange(unused.TakeThreadCaches());
        doubts.AddRange(unused.Doubts);

        List<NativeNode> inUse = unused.Remaining();
        inUse.AddRange(GlibcMappedChunks.Find(memory, arenas, others ?? new AddressRanges([]), doubts));
        NativeNode.Sort(inUse);
        NativeNode.Sort(state);
        return new GlibcHeap(inUse, state, mappings, arenas.Any(static arena => arena.IsLocked), doubts);
    }
}
