using NativeLeaks.Ledger;

namespace NativeLeaks.Analysis;

/// <summary>Which blocks are live at this moment, to compare an earlier one with. Keeps the addresses inverted: a later search could take them
/// for holders.</summary>
internal sealed class LiveNow
{
    private readonly HashSet<(ulong Address, uint Context, uint Epoch)> _blocks;

    public LiveNow(LedgerReader ledger)
    {
        var all = new All([]);
        LiveBlockScan.Visit(ledger, ref all);
        _blocks = all.Blocks;
    }

    /// <summary>Whether the same block, and not another at its address, is still there.</summary>
    public bool IsStill(in LiveBlock block) => _blocks.Contains((~block.Address, block.Context, block.Epoch));

    private readonly record struct All(HashSet<(ulong Address, uint Context, uint Epoch)> Blocks) : ILiveBlockVisitor
    {
        public void Visit(in LiveBlock block) => Blocks.Add((~block.Address, block.Context, block.Epoch));
    }
}
