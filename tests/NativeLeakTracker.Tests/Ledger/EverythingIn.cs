using NativeLeaks.Ledger;

namespace NativeLeaks.Tests.Ledger;

/// <summary>Asks a ledger for all that its readers can give, as the analysis does.</summary>
internal static class EverythingIn
{
    // A stack takes time in proportion to its depth; a damaged ledger can show any number of them.
    private const int MaxChains = 2000;

    /// <summary>Returns how many blocks there are, and how many stacks end at the root.</summary>
    public static (int Blocks, int Whole) Read(LedgerReader ledger)
    {
        List<LiveBlock> blocks = ReadBlocks.Of(ledger).All;
        int whole = 0;
        foreach (uint context in blocks.Select(static block => block.Context).Distinct().Take(MaxChains))
        {
            ContextChain chain = ledger.Chain(context);
            whole += chain.ReachesRoot ? 1 : 0;
            foreach (uint id in chain.Contexts)
            {
                ContextEntry node = ledger.Context(id);
                _ = node.Kind == NodeKind.Native
                    ? ledger.Text(ledger.Module(node.Object).Path)
                    : ledger.Text(ledger.Code(node.Object).Name);
            }
        }

        _ = ledger.SumCounters();
        _ = ledger.Epochs.Length + ledger.Totals.Length + ledger.Finalized.Length + ledger.Pairings.Length + ledger.Text(ledger.Header.Allocator).Length;
        return (blocks.Count, whole);
    }
}
