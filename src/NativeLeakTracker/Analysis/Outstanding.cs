using NativeLeaks.Ledger;
using NativeLeaks.Symbols;

namespace NativeLeaks.Analysis;

/// <summary>How much of a scope is outstanding that somebody could be blamed for, before anything is judged.</summary>
/// <param name="Blocks">Blocks, the runtime's and other flows' left out.</param>
/// <param name="Bytes">Their bytes.</param>
/// <param name="Finalized">Blocks that the finalizer thread released.</param>
internal readonly record struct Outstanding(long Blocks, long Bytes, long Finalized)
{
    /// <summary>Costs a pass over the live blocks.</summary>
    public static Outstanding Measure(LedgerReader ledger, BlockFilter filter, ContextResolver resolver)
    {
        var attribution = new Attribution(resolver, filter);
        long blocks = 0, bytes = 0;
        foreach (OutstandingBlocks outstanding in LiveGroups.Collect(ledger, filter, minBlockBytes: 0))
        {
            if (!resolver.IsRuntimeBlock(outstanding.Group.Context) &&
                attribution.Exclude(outstanding.Group.Context, outstanding.Belonging) is null)
            {
                blocks += outstanding.Group.Blocks;
                bytes += outstanding.Group.Bytes;
            }
        }

        return new Outstanding(blocks, bytes, FinalizerReleases.Count(ledger, filter));
    }
}
