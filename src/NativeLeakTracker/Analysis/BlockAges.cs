using NativeLeaks.Ledger;

namespace NativeLeaks.Analysis;

/// <summary>How old blocks are, as far as the periods tell in which they were made: one ends with each collection, and with each scope that
/// is opened.</summary>
/// <param name="Oldest">Collections that the oldest has survived.</param>
/// <param name="Youngest">The same of the youngest.</param>
/// <param name="First">When the period began in which the first was made.</param>
/// <param name="Last">The same of the last.</param>
internal readonly record struct BlockAges(long Oldest, long Youngest, DateTimeOffset First, DateTimeOffset Last)
{
    /// <param name="ledger">The tables.</param>
    /// <param name="epochs">The periods.</param>
    /// <param name="collections">Collections of the process until it was judged; the judgement's own do not count.</param>
    public static BlockAges Of(LedgerReader ledger, IReadOnlyCollection<uint> epochs, int collections)
    {
        DateTimeOffset started = DateTimeOffset.UnixEpoch.AddMilliseconds(ledger.Header.StartedUnixNs / 1_000_000);
        long oldest = 0, youngest = long.MaxValue;
        uint first = uint.MaxValue, last = 0;
        ReadOnlySpan<EpochEntry> table = ledger.Epochs;
        foreach (uint id in epochs)
        {
            if (id < table.Length)
            {
                ref readonly EpochEntry epoch = ref table[(int)id];
                long survived = Math.Max(collections - (long)epoch.GcCount, 0);
                oldest = Math.Max(oldest, survived);
                youngest = Math.Min(youngest, survived);
                first = Math.Min(first, epoch.TimeMs);
                last = Math.Max(last, epoch.TimeMs);
            }
        }

        return new BlockAges(oldest, Math.Min(youngest, oldest), started.AddMilliseconds(Math.Min(first, last)), started.AddMilliseconds(last));
    }
}
