using NativeLeaks.Heap;
using NativeLeaks.Ledger;

namespace NativeLeaks.Analysis;

/// <summary>Blocks and bytes of one context.</summary>
internal sealed class LiveGroup(uint context)
{
    private const int MaxSamples = 4;
    private const int MaxNodes = 8;
    private readonly List<RawWord> _samples = [];
    private readonly List<int> _nodes = [];
    private readonly HashSet<uint> _epochs = [];

    public uint Context { get; } = context;

    public long Blocks { get; private set; }

    public long Bytes { get; private set; }

    public long Smallest { get; private set; } = long.MaxValue;

    public long Largest { get; private set; }

    public IEnumerable<ulong> Samples => _samples.Select(static s => s.Value);

    /// <summary>Some of them as nodes of the search for holders.</summary>
    public IReadOnlyList<int> Nodes => _nodes;

    /// <summary>The periods in which they were made.</summary>
    public IReadOnlyCollection<uint> Epochs => _epochs;

    public void Add(in LiveBlock block, int node)
    {
        Add(block);
        if (_nodes.Count < MaxNodes)
        {
            _nodes.Add(node);
        }
    }

    public void Add(in LiveBlock block)
    {
        _epochs.Add(block.Epoch);
        Blocks++;
        Bytes += block.SizeBytes;
        Smallest = Math.Min(Smallest, block.SizeBytes);
        Largest = Math.Max(Largest, block.SizeBytes);
        if (_samples.Count < MaxSamples)
        {
            _samples.Add(block.Address);
        }
    }

    public void Add(LiveGroup other)
    {
        Blocks += other.Blocks;
        Bytes += other.Bytes;
        Smallest = Math.Min(Smallest, other.Smallest);
        Largest = Math.Max(Largest, other.Largest);
        _samples.AddRange(other._samples.Take(MaxSamples - _samples.Count));
        _nodes.AddRange(other.Nodes.Take(MaxNodes - _nodes.Count));
        _epochs.UnionWith(other._epochs);
    }
}

/// <summary>Blocks of one context that a report covers.</summary>
/// <param name="Belonging">To whom they belong.</param>
/// <param name="IsSmall">Each is smaller than what is judged.</param>
/// <param name="Group">The blocks.</param>
internal readonly record struct OutstandingBlocks(Belonging Belonging, bool IsSmall, LiveGroup Group);

/// <summary>Live blocks that a report covers, summed by context in one pass over the ledger.</summary>
internal readonly struct LiveGroups : ILiveBlockVisitor
{
    private readonly BlockFilter _filter;
    private readonly long _minBlockBytes;
    private readonly Dictionary<(uint Context, Belonging Belonging, bool IsSmall), LiveGroup> _groups;

    private LiveGroups(BlockFilter filter, long minBlockBytes)
    {
        _filter = filter;
        _minBlockBytes = minBlockBytes;
        _groups = [];
    }

    public static IEnumerable<OutstandingBlocks> Collect(LedgerReader ledger, BlockFilter filter, long minBlockBytes)
    {
        var groups = new LiveGroups(filter, minBlockBytes);
        LiveBlockScan.Visit(ledger, ref groups);
        return groups._groups.Select(static g => new OutstandingBlocks(g.Key.Belonging, g.Key.IsSmall, g.Value));
    }

    public void Visit(in LiveBlock block)
    {
        Belonging belonging = _filter.Of(block.Epoch);
        if (belonging == Belonging.Other)
        {
            return;
        }

        bool isSmall = block.SizeBytes < _minBlockBytes;
        if (!_groups.TryGetValue((block.Context, belonging, isSmall), out LiveGroup? group))
        {
            _groups[(block.Context, belonging, isSmall)] = group = new LiveGroup(block.Context);
        }

        group.Add(block);
    }
}
