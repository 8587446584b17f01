namespace NativeLeaks.Analysis;

/// <summary>Why blocks are not called a leak.</summary>
/// <param name="Reason">One of the words of <see cref="ExcludedBlocks.Reason"/>.</param>
/// <param name="Rule">The rule that says so, where there is one.</param>
/// <param name="Origin">Where the rule stands.</param>
internal readonly record struct Exclusion(string Reason, string? Rule = null, string? Origin = null);

/// <summary>Adds up what is set aside: nothing is hidden without a line.</summary>
internal sealed class SetAside
{
    private readonly Dictionary<Exclusion, (long Blocks, long Bytes)> _sums = [];

    public void Add(Exclusion reason, long blocks, long bytes)
    {
        (long blocksBefore, long bytesBefore) = _sums.GetValueOrDefault(reason);
        _sums[reason] = (blocksBefore + blocks, bytesBefore + bytes);
    }

    /// <summary>By reason, most bytes first.</summary>
    public IReadOnlyList<ExcludedBlocks> ToList() =>
    [
        .. _sums
            .Select(static s => new ExcludedBlocks(s.Key.Reason, s.Key.Rule, s.Value.Blocks, s.Value.Bytes) { Origin = s.Key.Origin })
            .OrderBy(static e => e.Reason, StringComparer.Ordinal)
            .ThenByDescending(static e => e.Bytes),
    ];
}
