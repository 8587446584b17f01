using NativeLeaks.Capture;
using NativeLeaks.Heap.Managed;
using NativeLeaks.Ledger;

namespace NativeLeaks.Heap;

/// <summary>A step on the way from a holder to a block.</summary>
/// <param name="Root">Where the way begins; null inwards of that.</param>
/// <param name="Kind">What kind of memory it is; of the last step the block itself.</param>
/// <param name="Block">Of recorded memory.</param>
internal readonly record struct HolderStep(HolderRoot? Root, NativeNodeKind Kind, LiveBlock Block);

/// <summary>What holds the live blocks of one frozen copy. The copy lives as long as this.</summary>
internal sealed class Holders(
    FrozenCopy copy, ManagedHeap heap, NativeNodes nodes, HolderSearch search, FrozenWords words, IReadOnlySet<ulong> onStacks, StackPlace asked) : IDisposable
{
    // Ways are shortest ways; only in memory that changed while it was read could one lead back into itself.
    private const int MaxSteps = 64;
    private readonly Dictionary<int, int> _lostHolders = [];

    private PointerTargets Targets => nodes.Targets;

    public FrozenCopy Copy => copy;

    public ManagedHeap Heap => heap;

    public int Count => nodes.Count;

    /// <summary>The node as a recorded block that was live; null: it is other memory.</summary>
    public LiveBlock? BlockAt(int node) => nodes.KindOf(node) == NativeNodeKind.Block ? nodes.BlockOf(node) : null;

    /// <summary>The strongest of its holders.</summary>
    public HolderKind KindOf(int node) => search.KindOf(node);

    /// <summary>Of blocks that nothing else holds: which of them hold others of them. Costs reading them.</summary>
    public void LinkLost(IEnumerable<int> lost)
    {
        foreach (int holder in lost)
        {
            var held = new LostVisitor(this, holder);
            words.Visit(nodes[holder].Start, nodes[holder].End, ref held);
        }
    }

    /// <summary>The lost block that alone holds this one; null when none does.</summary>
    public LiveBlock? LostHolderOf(int node) => _lostHolders.TryGetValue(node, out int holder) ? BlockAt(holder) : null;

    /// <summary>The way to a block, from its holder inwards; empty when nothing holds it.</summary>
    public IReadOnlyList<HolderStep> WayTo(int node)
    {
        List<HolderStep> steps = [];
        while (search.KindOf(node) != HolderKind.None && steps.Count < MaxSteps)
        {
            HolderRoot? root = search.RootOf(node);
            steps.Add(new HolderStep(root, nodes.KindOf(node), nodes.BlockOf(node)));
            if (root is not null || search.HolderOf(node) is not { } holder)
            {
                break;
            }

            node = holder.Node;
        }

        steps.Reverse();
        return steps;
    }

    /// <summary>The managed method of the asking thread in whose part of the stack an address lies; null: another's, or not known.</summary>
    public string? FrameAt(ulong stackAddress) =>
        asked.FrameAt(stackAddress) is not 0 and var returnAddress && heap.MethodAt(returnAddress - 1) is { Length: > 0 } method ? method : null;

    /// <summary>Words of a node that point into the managed heap, with their offsets.</summary>
    /// <param name="node">Which.</param>
    /// <param name="found">They take the place of what it has.</param>
    public void PointersIntoManagedHeap(int node, List<(ulong Offset, ulong Pointer)> found)
    {
        found.Clear();
        var visitor = new ManagedVisitor(heap, nodes[node].Start, found);
        words.Visit(nodes[node].Start, nodes[node].End, ref visitor);
    }

    /// <summary>
    /// What a pointer leads to, if that is the first element of an array or string that nothing pins, and that no stack refers to; else null.
    /// </summary>
    public string? UnpinnedTarget(ulong pointer) =>
        heap.ContentsAt(pointer) is { } contents && !heap.IsPinned(contents.Object) && !onStacks.Contains(contents.Object)
            ? (heap.IsMarked(contents.Object) ? "the contents of a " : "the contents of a dead ") + contents.TypeName
            : null;

    public void Dispose()
    {
        words.Dispose();
        heap.Dispose();
        copy.Dispose();
    }

    private readonly struct LostVisitor(Holders holders, int holder) : IWordVisitor
    {
        public void Visit(ulong address, ReadOnlySpan<ulong> words)
        {
            foreach (ulong word in words)
            {
                if (holders.Targets.MayBe(word) && holders.Targets.Find(word) is >= 0 and var target && target != holder &&
                    holders.KindOf(target) == HolderKind.None)
                {
                    holders._lostHolders.TryAdd(target, holder);
                }
            }
        }
    }

    private readonly struct ManagedVisitor(ManagedHeap heap, ulong start, List<(ulong Offset, ulong Pointer)> pointers) : IWordVisitor
    {
        public void Visit(ulong address, ReadOnlySpan<ulong> words)
        {
            for (int i = 0; i < words.Length; i++)
            {
                if (heap.IsInHeap(words[i]))
                {
                    pointers.Add((address + ((ulong)i * sizeof(ulong)) - start, words[i]));
                }
            }
        }
    }
}
