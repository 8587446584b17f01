using NativeLeaks.Ledger;

namespace NativeLeaks.Analysis;

/// <summary>Blocks and bytes of one context.</summary>
internal sealed class LiveGroup(uint context)
{
    private const int MaxSamples = 4;
    private readonly List<ulong> _samples = [];

    public uint Context { get; } = context;

    public long Blocks { get; private set; }

    public long Bytes { get; private set; }

    public long Smallest { get; private set; } = long.MaxValue;

    public long Largest { get; private set; }

    public IReadOnlyList<ulong> Samples => _samples;

    public void Add(in LiveBlock block)
    {
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
        _samples.AddRange(other.Samples.Take(MaxSamples - _samples.Count));
    }
}

/// <summary>Live blocks of a scope, summed by context in one pass over the ledger.</summary>
internal struct LiveGroups(uint firstEpoch) : ILiveBlockVisitor
{
    private readonly Dictionary<uint, LiveGroup> _groups = [];

    public readonly IReadOnlyCollection<LiveGroup> Groups => _groups.Values;

    public static IReadOnlyCollection<LiveGroup> Collect(LedgerReader ledger, uint firstEpoch)
    {
        var groups = new LiveGroups(firstEpoch);
        LiveBlockScan.Visit(ledger, ref groups);
        return groups.Groups;
    }

    public readonly void Visit(in LiveBlock block)
    {
        // Blocks from before the recording were resized while it ran; they are nobody's here.
        if (block.Epoch < firstEpoch || block.Epoch == LiveWord.EpochOlder)
        {
            return;
        }

        if (!_groups.TryGetValue(block.Context, out LiveGroup? group))
        {
            _groups[block.Context] = group = new LiveGroup(block.Context);
        }

        group.Add(block);
    }
}
