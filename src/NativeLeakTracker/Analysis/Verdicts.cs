using NativeLeaks.Capture;
using NativeLeaks.Heap;
using NativeLeaks.Ledger;
using NativeLeaks.Symbols;

namespace NativeLeaks.Analysis;

/// <summary>Says of suspected blocks what holds them.</summary>
internal interface IVerdicts
{
    /// <param name="suspected">Blocks by context; none: nothing is looked for.</param>
    /// <param name="filter">The blocks that are judged.</param>
    /// <param name="minBlockBytes">Smaller blocks are not.</param>
    JudgedBlocks Of(IReadOnlyList<OutstandingBlocks> suspected, BlockFilter filter, long minBlockBytes);
}

/// <summary>Where nothing can be looked for: another process, or one that has ended.</summary>
/// <param name="reason">Why not, for people.</param>
internal sealed class NoVerdicts(string reason) : IVerdicts
{
    public JudgedBlocks Of(IReadOnlyList<OutstandingBlocks> suspected, BlockFilter filter, long minBlockBytes) =>
        JudgedBlocks.OfUnclassified(suspected, reason);
}

/// <summary>Looks at a frozen copy of this process.</summary>
/// <param name="home">The ledger of this process.</param>
/// <param name="ledger">Its reader.</param>
/// <param name="resolver">Names stacks.</param>
/// <param name="firstSequence">Epochs from this one on began in the scope.</param>
/// <param name="asked">Who asks, and from where.</param>
internal sealed class Verdicts(
    LedgerHome home, LedgerReader ledger, ContextResolver resolver, ulong firstSequence, Questioner asked) : IVerdicts
{
    public JudgedBlocks Of(IReadOnlyList<OutstandingBlocks> suspected, BlockFilter filter, long minBlockBytes)
    {
        if (suspected.Count == 0)
        {
            return JudgedBlocks.OfUnclassified(suspected, null);
        }

        var scope = new JudgedScope(resolver.IsRuntimeBlock, resolver.IsFrameworkLibrarysBlock, IsInScope, asked.Stack, asked.From);
        Holders? holders = HolderAnalysis.Look(home, scope, out string? reason);
        return holders is null
            ? JudgedBlocks.OfUnclassified(suspected, reason)
            : JudgedBlocks.Of(holders, ledger, resolver, suspected, filter, minBlockBytes, asked.Collections);
    }

    private bool IsInScope(uint epoch)
    {
        ReadOnlySpan<EpochEntry> epochs = ledger.Epochs;
        return epoch < epochs.Length && epochs[(int)epoch].Sequence >= firstSequence;
    }
}

/// <summary>Who asks for a judgement: where its stack is, and what had happened before the judgement itself collected garbage.</summary>
/// <param name="Stack">Of the asking thread.</param>
/// <param name="From">Where the part of it begins that is not the tracker's own.</param>
/// <param name="Collections">Collections of the process until then.</param>
internal sealed record Questioner(StackPlace Stack, ulong From, int Collections)
{
    /// <param name="local">The address of a local variable of the tracker's outermost method.</param>
    public static Questioner Here(ulong local)
    {
        StackPlace stack = StackPlace.Here();
        return new Questioner(stack, stack.OutsideOf(local), GC.CollectionCount(0));
    }
}
