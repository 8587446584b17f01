using NativeLeaks.Heap;

namespace NativeLeaks.Tests.Heap;

/// <summary>Which native memory is reached from which root, in memory that is laid out by hand.</summary>
public sealed class HolderSearchTests
{
    private readonly List<FrozenWords> _opened = [];

    [TearDown]
    public void Close() => _opened.ForEach(static w => w.Dispose());

    private const ulong Heap = 0x5555_0000_0000, Data = 0x7f00_0000_0000, Stack = 0x7ffe_0000_0000;

    private static readonly AddressRanges s_none = new([]);

    [Test]
    public void Word_that_points_to_a_block_or_into_it_holds_it_and_one_behind_it_does_not()
    {
        var memory = new PlantedMemory { [Data] = Heap, [Data + 8] = Heap + 0x1ff, [Data + 16] = Heap + 0x300 };
        HolderSearch search = Search(memory, (Heap, 0x10), (Heap + 0x100, 0x100), (Heap + 0x2f0, 0x10));

        search.AddRange(Data, Data + 24, HolderKind.Global);
        search.Flood();

        Assert.That(Kinds(search, 3), Is.EqualTo(new[] { HolderKind.Global, HolderKind.Global, HolderKind.None }));
    }

    [Test]
    public void Blocks_are_followed_in_chains_and_in_circles()
    {
        var memory = new PlantedMemory
        {
            [Stack] = Heap,
            [Heap + 8] = Heap + 0x100,
            [Heap + 0x100] = Heap + 0x200,
            [Heap + 0x200] = Heap,
            [Heap + 0x300] = Heap + 0x400,
            [Heap + 0x400] = Heap + 0x300,
        };
        HolderSearch search = Search(memory, (Heap, 16), (Heap + 0x100, 16), (Heap + 0x200, 16), (Heap + 0x300, 16), (Heap + 0x400, 16));

        search.AddRange(Stack, Stack + 8, HolderKind.Stack, threadId: 7);
        search.Flood();

        Assert.That(Kinds(search, 5), Is.EqualTo(new[] { HolderKind.Stack, HolderKind.Stack, HolderKind.Stack, HolderKind.None, HolderKind.None }));
        Assert.That(search.HolderOf(2), Is.EqualTo((1, Heap + 0x100)));
        Assert.That(search.RootOf(0), Is.EqualTo(new HolderRoot(HolderKind.Stack, Stack, 7)));
    }

    [Test]
    public void Strongest_holder_is_told_whatever_comes_first()
    {
        var memory = new PlantedMemory { [Stack] = Heap, [Data] = Heap, [Heap] = Heap + 0x100 };
        HolderSearch search = Search(memory, (Heap, 16), (Heap + 0x100, 16));

        search.AddRange(Stack, Stack + 8, HolderKind.Stack);
        search.Flood();
        search.AddRange(Data, Data + 8, HolderKind.Global);
        search.Flood();
        search.AddRange(Stack, Stack + 8, HolderKind.Stack);
        search.Flood();

        Assert.That(Kinds(search, 2), Is.EqualTo(new[] { HolderKind.Global, HolderKind.Global }));
        Assert.That(search.RootOf(0)!.Address, Is.EqualTo(Data));
    }

    [Test]
    public void Words_of_an_allocators_bookkeeping_hold_nothing()
    {
        var memory = new PlantedMemory { [Data] = Heap, [Data + 8] = Heap + 0x100 };
        var nodes = Nodes((Heap, 16), (Heap + 0x100, 16));
        using var words = new FrozenWords(memory);
        var search = new HolderSearch(nodes, words, new AddressRanges([new AddressRange(Data, Data + 8)]));

        search.AddRange(Data, Data + 16, HolderKind.Global);
        search.Flood();

        Assert.That(Kinds(search, 2), Is.EqualTo(new[] { HolderKind.None, HolderKind.Global }));
    }

    [Test]
    public void Large_blocks_are_read_where_they_were_touched()
    {
        const ulong Bytes = 1UL << 30;
        ulong large = Data + (1UL << 32);
        var memory = new PlantedMemory { [Stack] = large, [large + (Bytes / 2)] = Heap, [large + Bytes - 8] = Heap + 0x100 };
        HolderSearch search = Search(memory, (Heap, 16), (Heap + 0x100, 16), (large, Bytes));

        search.AddRange(Stack, Stack + 8, HolderKind.Stack);
        search.Flood();

        Assert.That(Kinds(search, 3), Is.All.EqualTo(HolderKind.Stack));
    }

    [Test]
    public void Filter_agrees_with_a_plain_comparison()
    {
        var random = new Random(11);
        List<NativeNode> nodes = [];
        ulong at = Heap;
        for (int i = 0; i < 5_000; i++)
        {
            at += (ulong)random.NextInt64(0, i % 100 == 0 ? 1L << 30 : 500);
            ulong bytes = (ulong)random.NextInt64(1, i % 500 == 0 ? 1 << 20 : 300);
            nodes.Add(new NativeNode(at, bytes));
            at += bytes;
        }

        var targets = new PointerTargets(nodes);
        for (int i = 0; i < 200_000; i++)
        {
            NativeNode near = nodes[random.Next(nodes.Count)];
            ulong word = near.Start + (ulong)random.NextInt64(-40, (long)near.Bytes + 40);
            int expected = nodes.FindIndex(n => n.Start == near.Start) is var own && word >= near.Start && word < near.End ? own
                : nodes.FindIndex(n => word >= n.Start && word < n.End);
            Assert.That(targets.MayBe(word) ? targets.Find(word) : -1, Is.EqualTo(expected), $"0x{word:x}");
            i += expected < 0 ? 50 : 0; // the slow search is slow
        }
    }

    [Test]
    public void Block_of_the_scope_that_an_older_one_holds_is_held_by_that_whatever_holds_the_older()
    {
        var memory = new PlantedMemory
        {
            [Stack] = Heap,
            [Heap] = Heap + 0x100,
            [Heap + 0x100] = Heap + 0x200,
            [Heap + 0x108] = Heap,
            [Heap + 0x200] = Heap + 0x300,
            [Heap + 0x300] = Heap,
        };
        HolderSearch search = OlderFirst(memory, older: 1, (Heap, 16), (Heap + 0x100, 16), (Heap + 0x200, 16), (Heap + 0x300, 16));

        search.AddRange(Stack, Stack + 8, HolderKind.Stack);
        search.Flood();

        Assert.That(
            Kinds(search, 4), Is.EqualTo(new[] { HolderKind.Stack, HolderKind.OlderMemory, HolderKind.OlderMemory, HolderKind.OlderMemory }));
        Assert.That(search.RootOf(0), Is.Not.Null, "held by what it holds");
    }

    [Test]
    public void Older_block_that_only_a_block_of_the_scope_holds_holds_no_stronger()
    {
        var memory = new PlantedMemory { [Stack] = Heap + 0x100, [Heap + 0x100] = Heap, [Heap] = Heap + 0x100, [Heap + 8] = Heap + 0x200 };
        HolderSearch search = OlderFirst(memory, older: 1, (Heap, 16), (Heap + 0x100, 16), (Heap + 0x200, 16));

        search.AddRange(Stack, Stack + 8, HolderKind.Stack);
        search.Flood();

        Assert.That(Kinds(search, 3), Is.All.EqualTo(HolderKind.Stack));
        Assert.That(search.RootOf(1), Is.Not.Null, "held by what it holds");
    }

    [Test]
    public void Older_block_that_only_a_word_of_a_stack_holds_holds_no_stronger()
    {
        var memory = new PlantedMemory { [Stack] = Heap, [Heap] = Heap + 0x100 };
        HolderSearch search = OlderFirst(memory, older: 1, (Heap, 16), (Heap + 0x100, 16));

        search.AddRange(Stack, Stack + 8, HolderKind.StackWord);
        search.Flood();

        Assert.That(Kinds(search, 2), Is.All.EqualTo(HolderKind.StackWord));
    }

    [Test]
    public void Older_memory_of_the_framework_holds_only_what_its_libraries_made([Values] bool isMadeByLibrary, [Values] bool isHeldByProgramToo)
    {
        var memory = new PlantedMemory { [Data] = Heap, [Data + 8] = Heap, [Heap] = Heap + 0x100, [Heap + 0x100] = Heap + 0x200 };
        HolderSearch search = OlderFirst(memory, older: 2, isMadeByLibrary, (Heap, 16), (Heap + 0x100, 16), (Heap + 0x200, 16));

        if (isHeldByProgramToo)
        {
            search.AddRange(Data + 8, Data + 16, HolderKind.Global);
            search.Flood();
        }

        search.AddRange(Data, Data + 8, HolderKind.Global, isFrameworks: true);
        search.Flood();

        HolderKind expected = isMadeByLibrary || isHeldByProgramToo ? HolderKind.Global : HolderKind.None;
        Assert.That(Kinds(search, 3), Is.EqualTo(new[] { HolderKind.Global, expected, expected }));
    }

    private static HolderKind[] Kinds(HolderSearch search, int count) => [.. Enumerable.Range(0, count).Select(search.KindOf)];

    private HolderSearch Search(FrozenMemory memory, params (ulong Start, ulong Bytes)[] blocks)
    {
        var words = new FrozenWords(memory);
        _opened.Add(words);
        return new HolderSearch(Nodes(blocks), words, s_none);
    }

    private HolderSearch OlderFirst(FrozenMemory memory, int older, params (ulong Start, ulong Bytes)[] blocks) =>
        OlderFirst(memory, older, false, blocks);

    /// <param name="memory">The memory.</param>
    /// <param name="older">So many of the blocks are older than the scope.</param>
    /// <param name="isMadeByLibrary">Whether a library of the framework made the others.</param>
    /// <param name="blocks">By address.</param>
    private HolderSearch OlderFirst(FrozenMemory memory, int older, bool isMadeByLibrary, params (ulong Start, ulong Bytes)[] blocks)
    {
        var words = new FrozenWords(memory);
        _opened.Add(words);
        return new HolderSearch(Nodes(blocks), words, s_none) { IsOfScope = node => node >= older, IsFrameworkLibrarys = _ => isMadeByLibrary };
    }

    private static NativeNodes Nodes(params (ulong Start, ulong Bytes)[] blocks) =>
        NativeNodes.Of(blocks.Select(static b => new NativeNode(b.Start, b.Bytes)));
}
