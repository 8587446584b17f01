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
    public static BlockFilter Process(LedgerReader ledger, ulong firstSequence)
    {
        ReadOnlySpan<EpochEntry> epochs = ledger.Epochs;
        var scope = new bool[epochs.Length];
        for (int i = 0; i < epochs.Length; i++)
        {
            // Blocks from before the recording were resized while it ran; they are nobody's here.
            scope[i] = i > LiveWord.EpochOlder && IsSince(ledger, epochs[i], firstSequence);
        }

        return new BlockFilter(scope, new bool[epochs.Length], isOnlyScope: true);
    }

    /// <summary>What a scope's flow allocated, and those opened inside it.</summary>
    public static BlockFilter Flow(LedgerReader ledger, FlowScope flow)
    {
        ReadOnlySpan<EpochEntry> epochs = ledger.Epochs;
        var scope = new bool[epochs.Length];
        var outside = new bool[epochs.Length];
        HashSet<uint> mine = flow.Tags();
        for (int i = 0; i < epochs.Length; i++)
        {
            bool since = IsSince(ledger, epochs[i], flow.FirstSequence);
            scope[i] = since && mine.Contains(epochs[i].ScopeTag);
            outside[i] = since && epochs[i].ScopeTag == EpochEntry.TagOutside;
        }

        return new BlockFilter(scope, outside, FlowScope.OpenCount == 1);
    }

    // After a detach frees went unseen: blocks of an older session prove nothing.
    private static bool IsSince(LedgerReader ledger, in EpochEntry epoch, ulong firstSequence) =>
        epoch.Sequence >= firstSequence && epoch.Sequence != 0 && epoch.Session == ledger.Header.Session;

    public Belonging Of(uint epoch) =>
        epoch >= _scope.Length ? Belonging.Other
        : _scope[epoch] ? Belonging.Scope
        : _outside[epoch] ? Belonging.Outside
        : Belonging.Other;
}
