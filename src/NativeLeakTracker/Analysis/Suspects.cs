using NativeLeaks.Heap;
using NativeLeaks.Symbols;

namespace NativeLeaks.Analysis;

/// <summary>What is said of blocks: the verdict contract's words (docs/verdicts.md).</summary>
internal readonly record struct Judgement(string Verdict, string? How = null, string? FinalizedType = null)
{
    public static Judgement Unclassified { get; } = new("unclassified");

    /// <summary>Of a block that a holder of some kind holds, or nothing does.</summary>
    public static Judgement Of(HolderKind holder) => new(holder.Verdict(), holder.How());
}

/// <summary>
/// Blocks that may be leaks, by named stack. Contexts differ by return address; those whose stacks read the same and of which
/// the same is said are one finding.
/// </summary>
internal sealed class Suspects(ContextResolver resolver)
{
    private readonly StackIdentities _identities = new();
    private readonly Dictionary<(string Stack, Judgement Judgement), (IReadOnlyList<ResolvedFrame> Stack, LiveGroup Group)> _found = [];

    /// <summary>Names the stack of the group's context, which takes time.</summary>
    public void Add(LiveGroup group, Judgement judgement)
    {
        IReadOnlyList<ResolvedFrame> stack = resolver.Resolve(group.Context);
        (string, Judgement) key = (_identities.Of(stack), judgement);
        if (_found.TryGetValue(key, out (IReadOnlyList<ResolvedFrame> Stack, LiveGroup Group) same))
        {
            same.Group.Add(group);
        }
        else
        {
            _found[key] = (stack, group);
        }
    }

    /// <summary>One group for each finding, in no order.</summary>
    public IEnumerable<(LeakGroup Described, LiveGroup Group)> Describe() =>
        _found.Select(static f => (Describe(f.Value.Stack, f.Value.Group, f.Key.Judgement), f.Value.Group));

    /// <summary>The group as reports show it.</summary>
    public static LeakGroup Describe(IReadOnlyList<ResolvedFrame> stack, LiveGroup group, Judgement judgement)
    {
        InteropCall call = InteropCall.Of(stack);
        return new LeakGroup(
            judgement.Verdict,
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
            How = judgement.How,
            FinalizedType = judgement.FinalizedType,
        };
    }
}
