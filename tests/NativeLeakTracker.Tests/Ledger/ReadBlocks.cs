using NativeLeaks.Ledger;

namespace NativeLeaks.Tests.Ledger;

/// <summary>The live blocks that a ledger shows.</summary>
internal readonly struct ReadBlocks() : ILiveBlockVisitor
{
    public List<LiveBlock> All { get; } = [];

    public static ReadBlocks Of(LedgerReader ledger)
    {
        var blocks = new ReadBlocks();
        LiveBlockScan.Visit(ledger, ref blocks);
        return blocks;
    }

    public void Visit(in LiveBlock block) => All.Add(block);
}
