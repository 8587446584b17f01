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
    public static LeakFindings Judge(LedgerReader ledger, BlockFilter filter, ContextResolver resolver)
    {
        var leaks = new Dictionary<string, (IReadOnlyList<ResolvedFrame> Stack, LiveGroup Group)>(StringComparer.Ordinal);
        var identities = new StackIdentities();
        var excluded = new Dictionary<(string Reason, string? Rule), (long Blocks, long Bytes)>();
        long liveBlocks = 0, liveBytes = 0;
        foreach ((Belonging belonging, LiveGroup group) in LiveGroups.Collect(ledger, filter))
        {
            liveBlocks += group.Blocks;
            liveBytes += group.Bytes;

            // Naming takes time; most of what is set aside is known without.
            (string Reason, string? Rule)? reason = Exclusion(resolver.Outline(group.Context), belonging, filter);
            IReadOnlyList<ResolvedFrame> stack = reason is null ? resolver.Resolve(group.Context) : [];
            reason ??= Suppressions.Match([.. stack.Select(static f => f.Frame)]) is { } rule ? ("suppressed", rule) : null;
            if (reason is { } aside)
            {
                (long blocks, long bytes) = excluded.GetValueOrDefault(aside);
                excluded[aside] = (blocks + group.Blocks, bytes + group.Bytes);
                continue;
            }

            // Contexts differ by return address; stacks that read the same are one finding.
            string key = identities.Of(stack);
            if (leaks.TryGetValue(key, out (IReadOnlyList<ResolvedFrame> Stack, LiveGroup Group) same))
            {
                same.Group.Add(group);
            }
            else
            {
                leaks[key] = (stack, group);
            }
        }

        return new LeakFindings(
            [.. leaks.Values.Select(static l => Describe(l.Stack, l.Group))
                .OrderByDescending(static g => g.Bytes).ThenByDescending(static g => g.Blocks)],
            [.. excluded.Select(static e => new ExcludedBlocks(e.Key.Reason, e.Key.Rule, e.Value.Blocks, e.Value.Bytes))
                .OrderBy(static e => e.Reason, StringComparer.Ordinal).ThenByDescending(static e => e.Bytes)],
            liveBlocks,
            liveBytes,
            leaks.Count > 0 ? resolver.Notes : []);
    }

    private static (string Reason, string? Rule)? Exclusion(
        IReadOnlyList<FrameOutline> stack, Belonging belonging, BlockFilter filter)
    {
        if (Blame.IsRuntimeBlock(stack))
        {
            return ("runtime", null);
        }

        // A managed thread outside the scope has a flow of its own, and it is not ours. A native thread has none: it is
        // ours when there is nobody else whose it could be.
        return belonging == Belonging.Outside && (!filter.IsOnlyScope || Blame.HasManagedFrame(stack)) ? ("otherScope", null) : null;
    }

    private static LeakGroup Describe(IReadOnlyList<ResolvedFrame> stack, LiveGroup group)
    {
        InteropCall call = InteropCall.Of(stack);
        return new LeakGroup(
            "unclassified",
            group.Blocks,
            group.Bytes,
            group.Smallest,
            group.Largest,
            call.Api,
            Blame.Allocator(stack),
            Blame.Owner(stack),
            [.. stack.Select(static f => f.Frame)],
            [.. group.Samples.Select(static a => $"0x{a:x}")])
        {
            Import = call.Import,
        };
    }
}
