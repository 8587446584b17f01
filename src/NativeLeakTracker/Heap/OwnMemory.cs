using NativeLeaks.Capture;
using NativeLeaks.Ledger;

namespace NativeLeaks.Heap;

/// <summary>The tracker's own memory: its tables know every block, and hold none.</summary>
internal static class OwnMemory
{
    private const int FirstRanges = 1024;

    public static unsafe AddressRanges Of(LedgerReader ledger)
    {
        (ulong Start, ulong SizeBytes)[] ranges = [];
        uint count;
        do
        {
            ranges = new (ulong, ulong)[Math.Max(2 * ranges.Length, FirstRanges)];
            fixed ((ulong, ulong)* first = ranges)
            {
                count = ShimLibrary.GetOwnMemory(first, (uint)ranges.Length);
            }
        }
        while (count == ranges.Length);

        List<AddressRange> all = [.. ranges.Take((int)count).Select(static r => new AddressRange(r.Start, r.Start + r.SizeBytes))];
        all.Add(new AddressRange(ledger.Header.BaseAddress, ledger.Header.BaseAddress + ledger.Header.SizeBytes));
        foreach (ref readonly ChunkEntry chunk in ledger.Chunks)
        {
            all.Add(new AddressRange(chunk.Words, chunk.Words + ((ulong)chunk.WordCount * sizeof(ulong))));
        }

        return new AddressRanges(all);
    }
}
