using NativeLeaks.Capture;
using NativeLeaks.Ledger;

namespace NativeLeaks.Analysis;

/// <summary>To whom a block belongs, seen from one report.</summary>
internal enum Belonging
{
    /// <summary>To the scope that is reported.</summary>
    Scope,

    /// <summary>Made since the scope was opened, on a thread outside of every scope.</summary>
    Outside,

    /// <summary>Older, or another scope's.</summary>
    Other,
}

/// <summary>Which blocks a report covers: those of a scope, or all that were recorded from an epoch on.</summary>
internal sealed class BlockFilter
{
    private readonly bool[] _scope;
    private readonly bool[] _outside;

    private BlockFilter(bool[] scope, bool[] outside, bool isOnlyScope)
    {
        _scope = scope;
        _outside = outside;
        IsOnlyScope = isOnlyScope;
    }

    /// <summary>Whether nobody else could be blamed for what native threads allocate.</summary>
    public bool IsOnlyScope { get; }

    /// <summary>Everything that was recorded from an epoch on, by anybody.</summary>
    public static BlockFilter Process(LedgerReader ledger, uint firstEpoch)
    {
        ReadOnlySpan<EpochEntry> epochs = ledger.Epochs;
        var scope = new bool[epochs.Length];
        for (int i = 0; i < epochs.Length; i++)
        {
            // Blocks from before the recording were resized while it ran; they are nobody's here.
            scope[i] = i >= firstEpoch && i > LiveWord.EpochOlder;
        }

        return new BlockFilter(scope, new bool[epochs.Length], isOnlyScope: true);
    }

    /// <summary>What a scope's flow allocated, and those opened inside it.</summary>
    public static BlockFilter Flow(LedgerReader ledger, FlowScope flow)
    {
        ReadOnlySpan<EpochEntry> epochs = ledger.Epochs;
        var scope = new bool[epochs.Length];
        var outside = new bool[epochs.Length];
        HashSet<uint> mine = flow.Epochs();
        for (uint i = flow.FirstOutsideEpoch; i < epochs.Length; i++)
        {
            scope[i] = mine.Contains(i);
            outside[i] = epochs[(int)i].ScopeTag == 0;
        }

        return new BlockFilter(scope, outside, FlowScope.OpenCount == 1);
    }

    public Belonging Of(uint epoch) =>
        epoch >= _scope.Length ? Belonging.Other
        : _scope[epoch] ? Belonging.Scope
        : _outside[epoch] ? Belonging.Outside
        : Belonging.Other;
}
