using System.Runtime.InteropServices;
using NativeLeaks.Capture;
using NativeLeaks.Heap;
using NativeLeaks.Ledger;
using NativeLeaks.Tests.Hazards;
using NativeLeaks.Tests.Ledger;

namespace NativeLeaks.Tests.Heap;

[TestFixture]
public sealed unsafe class GlibcHeapTests
{
    private static string Program => Path.Combine(RepositoryPaths.NativeFixtures, "heap_of_all_kinds");

    /// <summary>The tracker saw every call from the first instruction on: what it has as live is what malloc has in use.</summary>
    [Test]
    public void Chunks_in_use_are_exactly_the_blocks_that_the_program_holds(
        [Values(0, 1, 3, 8, 20)] int threads, [Values(1, 2, 3)] int seed) => CompareWithLedger(threads, seed, "plain");

    [Test]
    public void Chunks_in_use_are_exact_where_the_break_is_not_the_mallocs_alone(
        [Values("foreign", "blocked", "blocked and mapped")] string breakIs, [Values(1, 2, 3, 4)] int seed) => CompareWithLedger(2, seed, breakIs);

    private static void CompareWithLedger(int threads, int seed, string breakIs)
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("ledger");
        using RunningProgram program = RunningProgram.Start(
            Program, [$"{threads}", $"{seed}", breakIs], ChildProcess.Preload, ("NATIVELEAKS_LEDGER", path));
        var memory = new StandingProcess(program.Pid);
        GlibcHeap? heap = GlibcHeap.TryRead(memory, out string? reason);
        Assert.That(heap, Is.Not.Null, reason);
        Assert.That(heap!.Doubts, Is.Empty);
        Assert.That(heap.IsBusy, Is.False);

        using LedgerFile file = LedgerFile.Open(path);
        Dictionary<ulong, LiveBlock> live = ReadBlocks.Of(file.Ledger).All.ToDictionary(static block => block.Address);
        Assert.That(live, Has.Count.GreaterThan(500 * (threads + 1)));
        List<NativeNode> unknown = [];
        foreach (NativeNode chunk in heap.ChunksInUse)
        {
            if (!live.Remove(chunk.Start, out LiveBlock block))
            {
                unknown.Add(chunk);
                continue;
            }

            Assert.That((ulong)block.SizeBytes, Is.LessThanOrEqualTo(chunk.Bytes));
        }

        Assert.That(live, Is.Empty, "blocks that the heap does not have in use");
        // A thread's cache that is empty is told from a program's block by nothing, and matters as little.
        Assert.That(unknown.Where(chunk => chunk.Bytes is not (648 or 664) || !HasNoPointer(memory, chunk)), Is.Empty);
        Assert.That(heap.ChunksInUse, Is.Ordered.By(nameof(NativeNode.Start)));
        for (int i = 1; i < heap.ChunksInUse.Count; i++)
        {
            Assert.That(heap.ChunksInUse[i].Start, Is.GreaterThanOrEqualTo(heap.ChunksInUse[i - 1].End));
        }

        TestContext.Out.WriteLine($"{heap.ChunksInUse.Count} chunks, {heap.AllocatorState.Count} pieces of malloc's own state, {unknown.Count} empty caches");
        Assert.That(program.Finish(), Is.Zero);
    }

    private static bool HasNoPointer(FrozenMemory memory, NativeNode chunk)
    {
        var words = new ulong[chunk.Bytes / 8];
        Assert.That(memory.Read(chunk.Start, MemoryMarshal.AsBytes(words.AsSpan())), Is.EqualTo(chunk.Bytes));
        return words[16..80].All(static word => word == 0);
    }

    [Test]
    public void What_only_malloc_points_to_is_in_its_own_state()
    {
        using RunningProgram program = RunningProgram.Start(Program, ["4", "1", "plain"]);
        var memory = new StandingProcess(program.Pid);
        GlibcHeap heap = GlibcHeap.TryRead(memory, out string? reason)!;
        Assert.That(heap, Is.Not.Null, reason);
        IReadOnlyList<GlibcArena> arenas = GlibcArena.FindAll(memory, out _)!;
        Assert.That(arenas, Has.Count.InRange(2, 5));
        ulong[] tops = [.. arenas.Select(static arena => arena.Top)];

        var found = new HashSet<ulong>();
        foreach (MemoryMapping data in GlibcArena.LibcData(memory))
        {
            var words = new ulong[(data.End - data.Start) / 8];
            Assert.That(memory.Read(data.Start, MemoryMarshal.AsBytes(words.AsSpan())), Is.EqualTo(words.Length * 8));
            for (int i = 0; i < words.Length; i++)
            {
                ulong at = data.Start + ((ulong)i * 8);
                if (tops.Contains(words[i]))
                {
                    found.Add(words[i]);
                    Assert.That(heap.AllocatorState.Any(state => at >= state.Start && at < state.End), Is.True);
                }
            }
        }

        Assert.That(found, Does.Contain(tops[0]), "the top of the main arena stands in libc's data");
        foreach (GlibcArena arena in arenas)
        {
            Assert.That(heap.AllocatorState, Does.Contain(new NativeNode(arena.Address, GlibcArena.StateBytes)));
        }
    }

    [Test]
    public void In_a_copy_of_this_process_its_own_blocks_are_in_use_and_freed_ones_are_not()
    {
        nuint[] sizes = [1, 24, 25, 100, 1032, 1033, 5000, 70_000, 200_000, 50_000_000];
        byte*[] kept = new byte*[sizes.Length], freed = new byte*[sizes.Length];
        for (int i = 0; i < sizes.Length; i++)
        {
            kept[i] = (byte*)NativeMemory.Alloc(sizes[i]);
            freed[i] = (byte*)NativeMemory.Alloc(sizes[i]);
        }

        foreach (byte* block in freed)
        {
            NativeMemory.Free(block);
        }

        GlibcHeap? heap = null;
        HashSet<ulong> reused = [];
        for (int attempt = 0; attempt < 20 && heap is null; attempt++)
        {
            using FrozenCopy copy = FrozenCopy.TryMake(out string? noCopy)!;
            Assert.That(copy, Is.Not.Null, noCopy);
            heap = GlibcHeap.TryRead(copy, out string? reason);
            Assert.That(heap, Is.Not.Null, reason);
            heap = heap!.IsBusy || heap.Doubts.Count > 0 ? null : heap;
        }

        Assert.That(heap, Is.Not.Null, "twenty copies in a row were caught in the middle of a change");
        for (int i = 0; i < sizes.Length; i++)
        {
            ulong start = (ulong)kept[i];
            NativeNode chunk = heap!.ChunksInUse.Single(node => node.Start == start);
            Assert.That(chunk.Bytes, Is.GreaterThanOrEqualTo((ulong)sizes[i]));
            NativeMemory.Free(kept[i]);
        }

        // Other threads may have been given a freed one again, but not all.
        ulong[] gone = [.. Enumerable.Range(0, sizes.Length).Select(i => (ulong)freed[i])];
        Assert.That(heap!.ChunksInUse.Count(node => gone.Contains(node.Start)), Is.LessThan(sizes.Length / 2));
    }

    /// <summary>Words that are read differ from what stands there: nothing is thrown, nothing loops, and mostly it is noticed.</summary>
    [Test]
    public void A_damaged_heap_is_doubted_and_never_believed_for_ever()
    {
        using RunningProgram program = RunningProgram.Start(Program, ["2", "5", "plain"]);
        var memory = new StandingProcess(program.Pid);
        int noticed = 0;
        for (int seed = 0; seed < 60; seed++)
        {
            GlibcHeap? heap = GlibcHeap.TryRead(new DamagedMemory(memory, seed), out string? reason);
            noticed += heap is null || heap.Doubts.Count > 0 ? 1 : 0;
            Assert.That(heap is null, Is.EqualTo(reason is not null));
        }

        Assert.That(noticed, Is.GreaterThan(30));
    }

    /// <summary>Some words are others, depending on their address only, so that two reads agree.</summary>
    private sealed class DamagedMemory(FrozenMemory whole, int seed) : FrozenMemory
    {
        public override int ProcessId => whole.ProcessId;

        public override IReadOnlyList<MemoryMapping> Mappings => whole.Mappings;

        public override IReadOnlyList<FrozenThread> Threads => whole.Threads;

        public override int Read(ulong address, Span<byte> destination)
        {
            int read = whole.Read(address, destination);
            for (int i = (int)(-(long)address & 7); i + 8 <= read; i += 8)
            {
                ulong hash = ((address + (ulong)i) ^ (ulong)seed * 0x9E3779B97F4A7C15) * 0xD6E8FEB86659FD93;
                hash ^= hash >> 32;
                if (hash % (ulong)(200 << (seed % 10)) == 0)
                {
                    ulong word = BitConverter.ToUInt64(destination[i..]);
                    ulong other = (seed % 4) switch { 0 => 0, 1 => word ^ 1UL << (int)(hash >> 40 & 63), 2 => ulong.MaxValue, _ => word + 16 };
                    BitConverter.TryWriteBytes(destination[i..], other);
                }
            }

            return read;
        }
    }
}
