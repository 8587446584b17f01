using System.Collections;
using System.Runtime.InteropServices;
using NativeLeaks.Ledger;

namespace NativeLeaks.Heap;

/// <summary>What a piece of native memory is.</summary>
internal enum NativeNodeKind
{
    /// <summary>A live block that was recorded.</summary>
    Block,

    /// <summary>A block in use that was not recorded: it is older than the recording.</summary>
    OlderBlock,

    /// <summary>Memory that was mapped directly, and not through malloc.</summary>
    Mapping,
}

/// <summary>
/// All native memory that pointers may lead to, by address: live blocks, those older than the recording, and what was mapped past
/// malloc. What was freed, allocators' bookkeeping and the tracker's own memory is not among it, and so holds nothing.
/// </summary>
internal sealed class NativeNodes : IReadOnlyList<NativeNode>
{
    private readonly List<Entry> _entries;
    private PointerTargets? _targets;

    private NativeNodes(List<Entry> entries)
    {
        AddressOrder.Sort(CollectionsMarshal.AsSpan(entries));
        _entries = entries;
    }

    public PointerTargets Targets => _targets ??= new PointerTargets(this);

    public int Count => _entries.Count;

    public NativeNode this[int index] => CollectionsMarshal.AsSpan(_entries)[index].Node;

    public NativeNodeKind KindOf(int index) => _entries[index].Kind;

    public IEnumerator<NativeNode> GetEnumerator() => _entries.Select(static e => e.Node).GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    /// <summary>Of a recorded block: its size, context and epoch.</summary>
    public LiveBlock BlockOf(int index) => _entries[index].Block;

    /// <param name="ledger">With the live words of the copy.</param>
    /// <param name="chunks">Blocks in use, by address, whoever allocated them; none where everything was recorded.</param>
    public static NativeNodes OfBlocks(LedgerReader ledger, IEnumerable<AddressRange> chunks)
    {
        var recorded = new Recorded([], []);
        LiveBlockScan.Visit(ledger, ref recorded);
        RawWord[] starts = [.. recorded.Blocks.Select(static n => (RawWord)n.Start), .. recorded.Own];
        starts.AsSpan().Sort();
        int next = 0;
        foreach (AddressRange chunk in chunks)
        {
            while (next < starts.Length && starts[next] < chunk.Start)
            {
                next++;
            }

            if (next == starts.Length || starts[next] >= chunk.End)
            {
                recorded.Blocks.Add(Entry.Of(new NativeNode(chunk.Start, chunk.End - chunk.Start), NativeNodeKind.OlderBlock));
            }
        }

        return new NativeNodes(recorded.Blocks);
    }

    /// <summary>Blocks of which nothing but their place is known.</summary>
    public static NativeNodes Of(IEnumerable<NativeNode> blocks) =>
        new([.. blocks.Select(static b => Entry.Of(b, NativeNodeKind.Block))]);

    /// <summary>These, and what of directly mapped memory lies between them.</summary>
    public NativeNodes With(IEnumerable<AddressRange> mappings)
    {
        RawWord[] starts = [.. _entries.Select(static e => (RawWord)e.Start)];
        List<Entry> gaps = [];
        foreach (AddressRange mapping in mappings)
        {
            gaps.AddRange(Gaps(starts, mapping).Select(
                static gap => Entry.Of(new NativeNode(gap.Start, gap.End - gap.Start), NativeNodeKind.Mapping)));
        }

        return new NativeNodes([.. _entries, .. gaps]);
    }

    /// <summary>Where the piece ends that holds an address; null when none does.</summary>
    public ulong? EndAt(ulong address) => Targets.Find(address) is >= 0 and var index ? _entries[index].Node.End : null;

    /// <summary>Whole pages between the blocks of a mapping: two neighbouring mappings look like one.</summary>
    private IEnumerable<AddressRange> Gaps(RawWord[] starts, AddressRange mapping)
    {
        const ulong Page = 4096;
        int index = Array.BinarySearch(starts, mapping.Start);
        index = index < 0 ? ~index : index;
        ulong at = mapping.Start;
        for (; index < starts.Length && starts[index] < mapping.End; index++)
        {
            ulong end = starts[index] & ~(Page - 1);
            if (end > at)
            {
                yield return new AddressRange(at, end);
            }

            at = Math.Max(at, (_entries[index].Node.End + Page - 1) & ~(Page - 1));
        }

        if (at < mapping.End)
        {
            yield return mapping with { Start = at };
        }
    }

    /// <param name="Block">Of memory that was not recorded, only its place.</param>
    /// <param name="Kind">What it is.</param>
    private readonly record struct Entry(LiveBlock Block, NativeNodeKind Kind) : IAddressed
    {
        public ulong Start => Block.Address;

        public NativeNode Node => new(Block.Address, (ulong)Math.Max(Block.SizeBytes, 1));

        public static Entry Of(NativeNode node, NativeNodeKind kind) => new(new LiveBlock(node.Start, (long)node.Bytes, 0, 0), kind);
    }

    /// <param name="Blocks">Of the program.</param>
    /// <param name="Own">Where the tracker's own blocks start.</param>
    private readonly record struct Recorded(List<Entry> Blocks, List<RawWord> Own) : ILiveBlockVisitor
    {
        public void Visit(in LiveBlock block)
        {
            if (block is { Context: LiveWord.RootContext, Epoch: LiveWord.EpochOlder })
            {
                Own.Add(block.Address);
            }
            else
            {
                Blocks.Add(new Entry(block, NativeNodeKind.Block));
            }
        }
    }
}
