using NativeLeaks.Ledger;

namespace NativeLeaks.Analysis;

/// <summary>Which blocks of some contexts are live at this moment, to compare an earlier one with. Keeps the addresses inverted: a later search could
/// take them for holders.</summary>
internal sealed class LiveNow
{
    private const int MaxExpected = 1 << 24;
    private readonly HashSet<(ulong Address, uint Context, uint Epoch)> _blocks;

    /// <param name="ledger">The tables.</param>
    /// <param name="contexts">Of these.</param>
    /// <param name="expected">About how many there are.</param>
    public LiveNow(LedgerReader ledger, HashSet<uint> contexts, long expected)
    {
        var found = new Found(new HashSet<(ulong, uint, uint)>((int)Math.Min(expected, MaxExpected)), contexts);
        LiveBlockScan.Visit(ledger, ref found);
        _blocks = found.Blocks;
    }

    /// <summary>Whether the same block, and not another at its address, is still there.</summary>
    public bool IsStill(in LiveBlock block) => _blocks.Contains((~block.Address, block.Context, block.Epoch));

    private readonly record struct Found(HashSet<(ulong Address, uint Context, uint Epoch)> Blocks, HashSet<uint> Contexts) : ILiveBlockVisitor
    {
        public void Visit(in LiveBlock block)
        {
            if (Contexts.Contains(block.Context))
            {
                Blocks.Add((~block.Address, block.Context, block.Epoch));
            }
        }
    }
}
