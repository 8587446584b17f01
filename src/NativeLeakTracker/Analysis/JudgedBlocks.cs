using NativeLeaks.Heap;
using NativeLeaks.Ledger;
using NativeLeaks.Symbols;

namespace NativeLeaks.Analysis;

/// <summary>Suspected blocks by what is said of them. Keeps the frozen copy until it is disposed: names are looked up in it.</summary>
internal sealed class JudgedBlocks : IDisposable
{
    private const int MaxHolders = 3;
    private readonly Holders? _holders;
    private readonly HolderText? _text;
    private readonly LedgerReader? _ledger;
    private readonly int _collections;

    private JudgedBlocks(IEnumerable<(LiveGroup Group, Judgement Judgement)> groups, string? unclassified) =>
        (Groups, Unclassified) = ([.. groups], unclassified);

    private JudgedBlocks(
        IEnumerable<(LiveGroup Group, Judgement Judgement)> groups, Holders holders, HolderText text, LedgerReader ledger, int collections)
        : this(groups, null) =>
        (_holders, _text, _ledger, _collections) = (holders, text, ledger, collections);

    public IReadOnlyList<(LiveGroup Group, Judgement Judgement)> Groups { get; }

    /// <inheritdoc cref="LeakFindings.Unclassified"/>
    public string? Unclassified { get; }

    /// <inheritdoc cref="LeakFindings.ManagedPointers"/>
    public IReadOnlyList<ManagedPointerBug> ManagedPointers { get; private init; } = [];

    public static JudgedBlocks OfUnclassified(IReadOnlyList<OutstandingBlocks> suspected, string? reason) =>
        new(suspected.Select(static s => (s.Group, Judgement.Unclassified)), reason);

    /// <summary>Takes the holders over.</summary>
    public static JudgedBlocks Of(
        Holders holders,
        LedgerReader ledger,
        ContextResolver resolver,
        IReadOnlyList<OutstandingBlocks> suspected,
        BlockFilter filter,
        long minBlockBytes,
        int collections)
    {
        var asked = new HashSet<(uint Context, Belonging Belonging)>(suspected.Select(static s => (s.Group.Context, s.Belonging)));
        var groups = new Dictionary<(uint Context, Judgement Judgement), LiveGroup>();
        List<int> all = [], lost = [];
        var live = new LiveNow(ledger, [.. asked.Select(static a => a.Context)], suspected.Sum(static s => s.Group.Blocks));
        for (int node = 0; node < holders.Count; node++)
        {
            // What was released while it was looked at is no leak, and what was made since the first look is not judged.
            if (holders.BlockAt(node) is not { } block || block.SizeBytes < minBlockBytes ||
                !asked.Contains((block.Context, filter.Of(block.Epoch))) || !live.IsStill(block))
            {
                continue;
            }

            HolderKind kind = holders.KindOf(node);
            (uint, Judgement) key = (block.Context, Judgement.Of(kind));
            if (!groups.TryGetValue(key, out LiveGroup? group))
            {
                groups[key] = group = new LiveGroup(block.Context);
            }

            group.Add(block, node);
            all.Add(node);
            if (kind == HolderKind.None)
            {
                lost.Add(node);
            }
        }

        holders.LinkLost(lost);
        return new JudgedBlocks(
            groups.Select(static g => (g.Value, g.Key.Judgement)),
            holders,
            new HolderText(holders, resolver, SymbolSettings.FromEnvironment()),
            ledger,
            collections)
        {
            ManagedPointers = ManagedPointerBugs.Find(holders, all, resolver),
        };
    }

    /// <summary>Adds what is known of the blocks' holders and of their age.</summary>
    public LeakGroup Complete(LeakGroup group, LiveGroup blocks)
    {
        string[] holders = _text is null ? [] : [.. blocks.Nodes.Select(_text.Of).Where(static t => t.Length > 0).Distinct().Take(MaxHolders)];
        group = group with { Holders = holders };
        if (_ledger is null)
        {
            return group;
        }

        BlockAges ages = BlockAges.Of(_ledger, blocks.Epochs, _collections);
        return group with
        {
            CollectionsSurvived = ages.Oldest,
            FewestCollectionsSurvived = ages.Youngest,
            FirstAllocated = ages.First,
            LastAllocated = ages.Last,
        };
    }

    public void Dispose()
    {
        _text?.Dispose();
        _holders?.Dispose();
    }
}
