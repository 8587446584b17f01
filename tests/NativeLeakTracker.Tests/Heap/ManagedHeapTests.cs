using NativeLeaks.Heap;
using NativeLeaks.Heap.Managed;

namespace NativeLeaks.Tests.Heap;

[TestFixture]
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed class ManagedHeapTests
{
    // Strongest first, as judgements go.
    private static readonly RootKind[][] s_phases =
    [
        [RootKind.Static],
        [RootKind.ThreadStatic],
        [RootKind.StrongHandle, RootKind.PinnedHandle, RootKind.AsyncPinned, RootKind.RefCounted],
        [RootKind.FinalizerQueue],
    ];

    private static readonly (string Block, string Path)[] s_paths =
    [
        ("safe handle", "static HeapShapes.Cache.Safe -> SafeBlock.handle"),
        ("property", "static HeapShapes.Cache.Property -> SafeBlock.handle"),
        ("structure", "static HeapShapes.Cache.Structure -> Pair.Pointer"),
        ("nint", "static HeapShapes.Cache.All -> Derived.Signed"),
        ("nuint", "static HeapShapes.Cache.All -> Derived.Unsigned"),
        ("pointer", "static HeapShapes.Cache.All -> Derived.Bytes"),
        ("function pointer", "static HeapShapes.Cache.All -> Derived.Function"),
        ("long", "static HeapShapes.Cache.All -> Derived.Long"),
        ("ulong", "static HeapShapes.Cache.All -> Derived.UnsignedLong"),
        ("field of a structure", "static HeapShapes.Cache.All -> Derived.Pair.Pointer"),
        ("tuple", "static HeapShapes.Cache.All -> Derived.Tuple.Item1"),
        ("nullable", "static HeapShapes.Cache.All -> Derived.Nullable.value"),
        ("auto-property", "static HeapShapes.Cache.All -> Derived.Property"),
        ("derived", "static HeapShapes.Cache.All -> Derived.Own"),
        ("next", "static HeapShapes.Cache.All -> Derived.Next -> Fields.Signed"),
        ("inline array", "static HeapShapes.Cache.All -> Derived.Four[2]"),
        ("fixed buffer", "static HeapShapes.Cache.All -> Derived.Fixed.Words[1]"),
        ("array", "static HeapShapes.Cache.Array[1]"),
        ("array of structures", "static HeapShapes.Cache.Pairs[2].Pointer"),
        ("packed structures", "static HeapShapes.Cache.PackedPairs[1].Pointer"),
        ("square", "static HeapShapes.Cache.Square[2]"),
        ("array of objects", "static HeapShapes.Cache.Safes[0] -> SafeBlock.handle"),
        ("box", "static HeapShapes.Cache.Box -> boxed IntPtr"),
        ("by name", "static HeapShapes.Cache.ByName -> Dictionary<string, SafeBlock>[\"first\"] -> SafeBlock.handle"),
        ("by number", "static HeapShapes.Cache.ByNumber -> Dictionary<int, IntPtr>[-7]"),
        ("by pair", "static HeapShapes.Cache.ByPair -> Dictionary<Pair, Pair>[...].Pointer"),
        ("concurrent", "static HeapShapes.Cache.Shared -> ConcurrentDictionary<string, SafeBlock>[\"key\"] -> SafeBlock.handle"),
        ("list", "static HeapShapes.Cache.List -> List<IntPtr>[3]"),
        ("queue", "static HeapShapes.Cache.Queue -> Queue<IntPtr>[0]"),
        ("set", "static HeapShapes.Cache.Set -> HashSet<IntPtr>"),
        ("attached", "static HeapShapes.Cache.Key -> ConditionalWeakTable[object] -> SafeBlock.handle"),
        ("thread local", "static HeapShapes.Cache.Local -> ThreadLocal<SafeBlock>.Value -> SafeBlock.handle"),
        ("thread static", "[ThreadStatic] HeapShapes.Cache.OfThread of THREAD -> SafeBlock.handle"),
        ("primitive thread static", "[ThreadStatic] HeapShapes.Cache.PrimitiveOfThread of THREAD"),
        ("generic static", "static HeapShapes.Generic<string>.Value -> SafeBlock.handle"),
        ("lambda", "static HeapShapes.Cache.Lambda -> Action -> lambda of Holders.Plant: captured"),
        ("delegate", "static HeapShapes.Cache.Method -> Action -> Called.Call -> Called.Block"),
        ("lazy", "static HeapShapes.Cache.Lazy -> Lazy<SafeBlock>.Value -> SafeBlock.handle"),
        ("async parameter", "static HeapShapes.Cache.Async -> local block of Holders.Wait()"),
        ("async local", "static HeapShapes.Cache.Async -> local local of Holders.Wait()"),
        ("iterator", "static HeapShapes.Cache.Iterator -> local block of Holders.Iterate()"),
        ("handle", "GCHandle (strong) -> SafeBlock.handle"),
        ("pinned", "GCHandle (pinned) -> IntPtr[][0]"),
        ("collectible static", "static HeapShapes.Cache.Safe -> SafeBlock.handle"),
        ("waits for its finalizer", "finalizer queue -> Finalized.Block"),
    ];

    [Test]
    public void Each_kind_of_holder_is_found_with_the_way_to_it()
    {
        using StoppedProgram program = StoppedProgram.Start("hold");
        using ManagedHeap heap = ManagedHeap.Open(program.StandStill());
        Dictionary<string, string> found = PathsOf(heap, program);
        Assert.Multiple(() =>
        {
            foreach ((string block, string path) in s_paths)
            {
                Assert.That(found.GetValueOrDefault(block), Is.EqualTo(path), block);
            }

            Assert.That(found.Keys.Except(s_paths.Select(static p => p.Block)), Is.Empty, "what holds nothing");
            ulong primitive = program.Blocks.Single(static b => b.Value == "primitive static").Key;
            Assert.That(StaticsWith(heap, program.StandStill(), primitive), Is.EqualTo("static HeapShapes.Cache.Primitive"));
        });
    }

    [TestCase("DOTNET_gcServer", "1")]
    [TestCase("DOTNET_GCName", "libclrgc.so")]
    [TestCase("DOTNET_EnableWriteXorExecute", "0")]
    [TestCase("DOTNET_TieredCompilation", "0")]
    public void Settings_of_the_runtime_change_nothing(string name, string value)
    {
        using StoppedProgram program = StoppedProgram.Start("hold", (name, value));
        using ManagedHeap heap = ManagedHeap.Open(program.StandStill());
        Dictionary<string, string> found = PathsOf(heap, program);
        Assert.That(found.Keys, Is.EquivalentTo(s_paths.Select(static p => p.Block)));
    }

    [Test]
    public void Under_threads_that_allocate_a_copy_is_right_or_torn()
    {
        const int Copies = 40;
        using StoppedProgram program = StoppedProgram.Start("allocate");
        int right = 0;
        for (int copy = 0; copy < Copies; copy++)
        {
            StandingProcess memory = program.StandStill();
            try
            {
                using ManagedHeap heap = ManagedHeap.Open(memory);
                List<ManagedHolder> found = [];
                heap.Flood(heap.Roots.Where(static r => r.Kind == RootKind.Static), program.Targets(), found);
                Assert.That(found.Select(static h => h.Pointer), Is.EquivalentTo(program.Blocks.Keys), $"copy {copy}");
                heap.Flood(heap.Roots, program.Targets(), found);
                Assert.That(heap.ObjectAt(heap.Roots[0].Object + 8), Is.EqualTo(heap.Roots[0].Object));
                right++;
            }
            catch (TornCopyException)
            {
                // The next one is better.
            }

            program.GoOn();
        }

        TestContext.Out.WriteLine($"{right} of {Copies} copies were right, the others torn");
        Assert.That(right, Is.Positive);
    }

    /// <summary>
    /// What the heap says of itself is not believed. Only large pieces are damaged, which are parts of the heap: the runtime's own reader, which reads
    /// small ones, does trust what it reads.
    /// </summary>
    [Test]
    public void Damaged_heap_is_torn_and_nothing_worse()
    {
        using StoppedProgram program = StoppedProgram.Start("hold");
        StandingProcess memory = program.StandStill();
        int torn = 0;
        for (int seed = 0; seed < 100; seed++)
        {
            try
            {
                using ManagedHeap heap = ManagedHeap.Open(new DamagedMemory(memory, seed, leastBytes: 1 << 15));
                _ = PathsOf(heap, program);
                for (int i = 0; i < heap.Roots.Count; i++)
                {
                    _ = heap.ObjectAt(heap.Roots[i].Object + 8);
                }
            }
            catch (TornCopyException)
            {
                torn++;
            }
        }

        Assert.That(torn, Is.Positive);
    }

    [Test]
    public void Damaged_types_are_torn_and_nothing_worse()
    {
        using StoppedProgram program = StoppedProgram.Start("hold");
        StandingProcess memory = program.StandStill();
        using RuntimeStructures structures = RuntimeStructures.Open(memory);
        ulong[] types = [.. structures.Handles().Select(h => memory.TryReadWord(h.Object, out ulong type) ? type : 0)];
        int torn = 0;
        for (int seed = 0; seed < 1000; seed++)
        {
            try
            {
                var tables = new MethodTables(new DamagedMemory(memory, seed, leastBytes: 1), structures);
                foreach (ulong type in types)
                {
                    _ = tables.At(type).BaseBytes;
                }
            }
            catch (TornCopyException)
            {
                torn++;
            }
        }

        Assert.That(torn, Is.Positive);
    }

    [Test]
    public void Process_without_a_runtime_is_said_to_have_none()
    {
        Assert.That(
            () => ManagedHeap.Open(new PlantedMemory()),
            Throws.TypeOf<HeapUnavailableException>().With.Message.Contains("single file"));
    }

    [Test]
    public void Addresses_lead_to_the_objects_that_they_lie_in()
    {
        using StoppedProgram program = StoppedProgram.Start("hold");
        using ManagedHeap heap = ManagedHeap.Open(program.StandStill());
        List<ManagedHolder> found = [];
        heap.Flood(heap.Roots, program.Targets(), found);
        Assert.Multiple(() =>
        {
            foreach (ManagedRoot root in heap.Roots)
            {
                Assert.That(heap.ObjectAt(root.Object), Is.EqualTo(root.Object));
                Assert.That(heap.ObjectAt(root.Object + 15), Is.EqualTo(root.Object));
                Assert.That(heap.IsMarked(root.Object), Is.True);
            }

            Assert.That(heap.Roots.Where(static r => r.Kind == RootKind.PinnedHandle).Select(r => heap.IsPinned(r.Object)), Is.All.True);
            Assert.That(heap.ObjectAt(program.Blocks.Keys.First()), Is.Zero);
            Assert.That(heap.IsInHeap(program.Blocks.Keys.First()), Is.False);
        });
    }

    private static Dictionary<string, string> PathsOf(ManagedHeap heap, StoppedProgram program)
    {
        PointerTargets targets = program.Targets();
        Dictionary<string, string> paths = [];
        foreach (RootKind[] phase in s_phases)
        {
            List<ManagedHolder> found = [];
            heap.Flood(heap.Roots.Where(r => phase.Contains(r.Kind)), targets, found);
            foreach (ManagedHolder holder in found)
            {
                ulong block = program.Blocks.Keys.Single(b => holder.Pointer >= b && holder.Pointer < b + StoppedProgram.BlockBytes);
                string path = heap.PathTo(holder);
                int thread = path.IndexOf("of thread ", StringComparison.Ordinal);
                if (thread > 0)
                {
                    int end = path.IndexOf(' ', thread + 10) is > 0 and var blank ? blank : path.Length;
                    path = path[..thread] + "of THREAD" + path[end..];
                }

                paths.TryAdd(program.Blocks[block], path);
            }
        }

        return paths;
    }

    // As a judgement does: every word of the type loader's memory that leads to the block.
    private static string StaticsWith(ManagedHeap heap, FrozenMemory memory, ulong block)
    {
        List<string> names = [];
        foreach (MemoryMapping mapping in memory.Mappings.Where(static m => m.Path.StartsWith("/memfd:doublemapper", StringComparison.Ordinal)))
        {
            var words = new byte[mapping.End - mapping.Start];
            int read = memory.Read(mapping.Start, words);
            for (int at = 0; at + sizeof(ulong) <= read; at += sizeof(ulong))
            {
                if (BitConverter.ToUInt64(words, at) == block && heap.StaticAt(mapping.Start + (ulong)at) is { } name)
                {
                    names.Add(name);
                }
            }
        }

        return string.Join(", ", names.Distinct());
    }
}
