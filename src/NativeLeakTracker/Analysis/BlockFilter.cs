using NativeLeaks.Capture;
using NativeLeaks.Ledger;

namespace NativeLeaks.Analysis;

/// <summary>To whom a block belongs, seen from one report.</summary>
internal enum Belonging
{
    /// <summary>Older, or another scope's.</summary>
    Other,

    /// <summary>To the scope that is reported.</summary>
    Scope,

    /// <summary>Made since the scope was opened, on a thread that was in no scope, while no other scope could be meant.</summary>
    Outside,

    /// <summary>The same, while other scopes could be meant as well.</summary>
    Contested,

    /// <summary>Made in a region of the scope that nobody is to be blamed for.</summary>
    Ignored,
}

/// <summary>Which blocks a report covers: those of a scope, or all that were recorded from an epoch on. A picture of the epochs that
/// had begun when it was made; blocks of later ones are not covered.</summary>
internal sealed class BlockFilter
{
    private readonly Belonging[] _byEpoch;

    private BlockFilter(Belonging[] byEpoch, bool isFlowLost)
    {
        _byEpoch = byEpoch;
        IsFlowLost = isFlowLost;
    }

    /// <summary>
    /// The report is asked for by a flow that the scope does not cover. Then the flow that it was meant for may be outside
    /// of every scope.
    /// </summary>
    public bool IsFlowLost { get; }

    /// <summary>Everything that was recorded from an epoch on, by anybody.</summary>
    public static BlockFilter Process(LedgerReader ledger, ulong firstSequence)
    {
        ReadOnlySpan<EpochEntry> epochs = ledger.Epochs;
        var belonging = new Belonging[epochs.Length];
        for (int i = 0; i < epochs.Length; i++)
        {
            // Blocks from before the recording were resized while it ran; they are nobody's here.
            belonging[i] = i <= LiveWord.EpochOlder || !IsSince(ledger, epochs[i], firstSequence) ? Belonging.Other
                : epochs[i].Flags.HasFlag(ScopeFlags.Ignored) ? Belonging.Ignored
                : Belonging.Scope;
        }

        return new BlockFilter(belonging, isFlowLost: false);
    }

    /// <summary>What a scope's flow allocated, and those opened inside it.</summary>
    public static BlockFilter Flow(LedgerReader ledger, FlowScope flow)
    {
        ReadOnlySpan<EpochEntry> epochs = ledger.Epochs;
        var belonging = new Belonging[epochs.Length];
        HashSet<uint> mine = flow.Tags();
        (ulong First, ulong Last)[] contested = ScopeRivalry.Periods();
        for (int i = 0; i < epochs.Length; i++)
        {
            ref readonly EpochEntry epoch = ref epochs[i];
            belonging[i] = !IsSince(ledger, epoch, flow.FirstSequence) ? Belonging.Other
                : epoch.ScopeTag == EpochEntry.TagOutside ? IsIn(contested, epoch.Sequence) ? Belonging.Contested : Belonging.Outside
                : !mine.Contains(epoch.ScopeTag) ? Belonging.Other
                : epoch.Flags.HasFlag(ScopeFlags.Ignored) ? Belonging.Ignored
                : Belonging.Scope;
        }

        return new BlockFilter(belonging, !flow.IsCallersOwn);
    }

    public Belonging Of(uint epoch) => epoch < _byEpoch.Length ? _byEpoch[epoch] : Belonging.Other;

    // After a detach frees went unseen: blocks of an older session prove nothing.
    private static bool IsSince(LedgerReader ledger, in EpochEntry epoch, ulong firstSequence) =>
        epoch.Sequence >= firstSequence && epoch.Sequence != 0 && epoch.Session == ledger.Header.Session;

    private static bool IsIn((ulong First, ulong Last)[] periods, ulong sequence) =>
        Array.Exists(periods, period => sequence >= period.First && sequence <= period.Last);
}
