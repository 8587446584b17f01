using NativeLeaks.Ledger;
using NativeLeaks.Symbols;

namespace NativeLeaks.Analysis;

/// <summary>What the outstanding blocks of a scope are: leaks, kept, or nobody's.</summary>
internal sealed record LeakFindings(
    IReadOnlyList<LeakGroup> Leaks,
    IReadOnlyList<LeakGroup> Kept,
    IReadOnlyList<ExcludedBlocks> Excluded,
    long LiveBlocks,
    long LiveBytes,
    IReadOnlyList<string> SymbolNotes)
{
    /// <summary>Pointers into the managed heap that native memory keeps and must not.</summary>
    public IReadOnlyList<ManagedPointerBug> ManagedPointers { get; init; } = [];

    /// <summary>Why nothing was looked for that may hold the blocks; null: it was, or there was no need.</summary>
    public string? Unclassified { get; init; }
}

/// <summary>Judges outstanding blocks by the verdict contract (docs/verdicts.md).</summary>
internal static class LeakAnalysis
{
    /// <param name="ledger">The tables.</param>
    /// <param name="filter">The blocks that are judged.</param>
    /// <param name="resolver">Names stacks.</param>
    /// <param name="rules">What is not to be called a leak.</param>
    /// <param name="verdicts">Asked only if something is left that could be one.</param>
    public static LeakFindings Judge(
        LedgerReader ledger, BlockFilter filter, ContextResolver resolver, JudgingRules rules, IVerdicts verdicts)
    {
        var aside = new SetAside();
        var attribution = new Attribution(resolver, filter);
        List<OutstandingBlocks> suspected = [];
        long liveBlocks = 0, liveBytes = 0;
        foreach (OutstandingBlocks outstanding in LiveGroups.Collect(ledger, filter, rules.MinBlockBytes))
        {
            LiveGroup group = outstanding.Group;
            liveBlocks += group.Blocks;
            liveBytes += group.Bytes;

            // Naming takes time; most of what is set aside is known without.
            if ((Exclude(resolver, outstanding, attribution, rules) ?? rules.ExcludeByStack(Name(group, resolver)))
                is { } reason)
            {
                aside.Add(reason, group.Blocks, group.Bytes);
            }
            else
            {
                suspected.Add(outstanding);
            }
        }

        using JudgedBlocks judged = verdicts.Of(suspected, filter, rules.MinBlockBytes);
        var suspects = new Suspects(resolver);
        foreach ((LiveGroup group, Judgement judgement) in judged.Groups)
        {
            suspects.Add(group, judgement);
        }

        foreach ((LiveGroup group, Judgement judgement) in FinalizerReleases.Collect(ledger, filter, resolver))
        {
            if (rules.ExcludeByStack(Name(group, resolver)) is { } reason)
            {
                aside.Add(reason, group.Blocks, group.Bytes);
            }
            else
            {
                suspects.Add(group, judgement);
            }
        }

        List<LeakGroup> leaks = [], kept = [];
        foreach ((LeakGroup described, LiveGroup group) in suspects.Describe())
        {
            LeakGroup whole = judged.Complete(described, group).WithAdvice();
            if (whole.Verdict == "kept" && !rules.IsStrict)
            {
                kept.Add(whole);
            }
            else if (rules.ExcludeByAmount(whole) is { } reason)
            {
                aside.Add(reason, whole.Blocks, whole.Bytes);
            }
            else
            {
                leaks.Add(whole);
            }
        }

        return new LeakFindings(
            InOrder(leaks), InOrder(kept), aside.ToList(), liveBlocks, liveBytes, leaks.Count > 0 ? resolver.Notes : [])
        {
            ManagedPointers = judged.ManagedPointers,
            Unclassified = judged.Unclassified,
        };
    }

    /// <summary>Most bytes first.</summary>
    public static IReadOnlyList<LeakGroup> InOrder(IEnumerable<LeakGroup> groups) =>
        [.. groups.OrderByDescending(static g => g.Bytes).ThenByDescending(static g => g.Blocks)];

    private static LeakGroup Name(LiveGroup group, ContextResolver resolver) =>
        Suspects.Describe(resolver.Resolve(group.Context), group, Judgement.Unclassified);

    private static Exclusion? Exclude(
        ContextResolver resolver, OutstandingBlocks outstanding, Attribution attribution, JudgingRules rules) =>
        resolver.IsRuntimeBlock(outstanding.Group.Context) ? new Exclusion("runtime")
        : attribution.Exclude(outstanding.Group.Context, outstanding.Belonging) ?? (outstanding.IsSmall ? rules.TooSmall : null);
}
