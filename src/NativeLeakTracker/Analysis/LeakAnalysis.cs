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
        var attribution = new Attribution(resolver, filter);
        long liveBlocks = 0, liveBytes = 0;
        foreach (OutstandingBlocks outstanding in LiveGroups.Collect(ledger, filter, rules.MinBlockBytes))
        {
            LiveGroup group = outstanding.Group;
            liveBlocks += group.Blocks;
            liveBytes += group.Bytes;

            // Naming takes time; most of what is set aside is known without.
            if (Exclude(resolver.Outline(group.Context), outstanding, attribution, rules) is { } reason)
            {
                aside.Add(reason, group.Blocks, group.Bytes);
            }
            else
            {
                suspects.Add(group, Judgement.Unclassified);
            }
        }

        foreach ((LiveGroup group, Judgement judgement) in FinalizerReleases.Collect(ledger, filter, resolver))
        {
            suspects.Add(group, judgement);
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

    private static Exclusion? Exclude(
        IReadOnlyList<FrameOutline> outline, OutstandingBlocks outstanding, Attribution attribution, JudgingRules rules) =>
        Blame.IsRuntimeBlock(outline) ? new Exclusion("runtime")
        : attribution.Exclude(outstanding.Group.Context, outstanding.Belonging) ?? (outstanding.IsSmall ? rules.TooSmall : null);
}
