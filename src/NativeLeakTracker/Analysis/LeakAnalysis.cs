using NativeLeaks.Ledger;
using NativeLeaks.Symbols;

namespace NativeLeaks.Analysis;

/// <summary>What the outstanding blocks of a scope are: leaks, or nobody's.</summary>
internal sealed record LeakFindings(
    IReadOnlyList<LeakGroup> Leaks,
    IReadOnlyList<ExcludedBlocks> Excluded,
    long LiveBlocks,
    long LiveBytes,
    IReadOnlyList<string> SymbolNotes);

/// <summary>Judges outstanding blocks by the verdict contract (docs/verdicts.md), as far as stacks alone tell.</summary>
internal static class LeakAnalysis
{
    public static LeakFindings Judge(LedgerReader ledger, BlockFilter filter, ContextResolver resolver, JudgingRules rules)
    {
        var aside = new SetAside();
        var suspects = new Suspects(resolver);
        long liveBlocks = 0, liveBytes = 0;
        foreach (OutstandingBlocks outstanding in LiveGroups.Collect(ledger, filter, rules.MinBlockBytes))
        {
            LiveGroup group = outstanding.Group;
            liveBlocks += group.Blocks;
            liveBytes += group.Bytes;

            // Naming takes time; most of what is set aside is known without.
            if (ExclusionByOutline(resolver.Outline(group.Context), outstanding, filter, rules) is { } reason)
            {
                aside.Add(reason, group.Blocks, group.Bytes);
            }
            else
            {
                suspects.Add(group, Judgement.Unclassified);
            }
        }

        List<LeakGroup> leaks = [];
        foreach (LeakGroup group in suspects.Describe())
        {
            if (rules.Exclude(group) is { } reason)
            {
                aside.Add(reason, group.Blocks, group.Bytes);
            }
            else
            {
                leaks.Add(group);
            }
        }

        return new LeakFindings(
            [.. leaks.OrderByDescending(static g => g.Bytes).ThenByDescending(static g => g.Blocks)],
            aside.ToList(),
            liveBlocks,
            liveBytes,
            leaks.Count > 0 ? resolver.Notes : []);
    }

    private static Exclusion? ExclusionByOutline(
        IReadOnlyList<FrameOutline> stack, OutstandingBlocks outstanding, BlockFilter filter, JudgingRules rules)
    {
        if (Blame.IsRuntimeBlock(stack))
        {
            return new Exclusion("runtime");
        }

        // A managed thread outside the scope has a flow of its own, and it is not ours. A native thread has none: it is
        // ours when there is nobody else whose it could be.
        if (outstanding.Belonging == Belonging.Outside && (!filter.IsOnlyScope || Blame.HasManagedFrame(stack)))
        {
            return new Exclusion("otherScope");
        }

        return outstanding.IsSmall ? rules.TooSmall : null;
    }
}
