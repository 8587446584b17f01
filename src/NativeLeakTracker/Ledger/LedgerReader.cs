using System.Runtime.CompilerServices;
using System.Text;

namespace NativeLeaks.Ledger;

/// <summary>
/// Reads the tables of a ledger in this process. Needs no lock: tables only grow, and an entry is complete before anything
/// refers to it. Safe from any thread.
/// </summary>
internal sealed unsafe class LedgerReader
{
    private readonly LedgerHeader* _header;

    public LedgerReader(nint header)
    {
        _header = (LedgerHeader*)header;
        if (_header->Magic != LedgerHeader.ExpectedMagic || _header->Version != LedgerHeader.ExpectedVersion)
        {
            throw new InvalidOperationException(
                $"The native shim's tables have version {_header->Version}; this library reads version " +
                $"{LedgerHeader.ExpectedVersion}. Use the shim that came with this version of NativeLeakTracker.");
        }
    }

    public ref readonly LedgerHeader Header => ref *_header;

    public ReadOnlySpan<ThreadEntry> Threads => Table<ThreadEntry>(TableId.Threads);

    public ReadOnlySpan<ModuleEntry> Modules => Table<ModuleEntry>(TableId.Modules);

    public ReadOnlySpan<ImageEntry> Images => Table<ImageEntry>(TableId.Images);

    public ReadOnlySpan<CodeEntry> Codes => Table<CodeEntry>(TableId.Codes);

    public ReadOnlySpan<ContextEntry> Contexts => Table<ContextEntry>(TableId.Contexts);

    public ReadOnlySpan<EpochEntry> Epochs => Table<EpochEntry>(TableId.Epochs);

    public ReadOnlySpan<TotalsEntry> Totals => Table<TotalsEntry>(TableId.Totals);

    public ReadOnlySpan<FinalizedEntry> Finalized => Table<FinalizedEntry>(TableId.Finalized);

    public ReadOnlySpan<ChunkEntry> Chunks => Table<ChunkEntry>(TableId.Chunks);

    /// <summary>Bytes that were copied into the ledger; empty where they do not lie in it.</summary>
    public ReadOnlySpan<byte> Blob(uint offset, uint bytes)
    {
        ReadOnlySpan<byte> blobs = Table<byte>(TableId.Blobs);
        return offset != 0 && offset <= blobs.Length && bytes <= blobs.Length - offset
            ? blobs.Slice((int)offset, (int)bytes)
            : default;
    }

    /// <summary>A text of the string table; empty for offset 0.</summary>
    public string Text(uint offset)
    {
        ReadOnlySpan<byte> strings = Table<byte>(TableId.Strings);
        if (offset == 0 || offset >= strings.Length)
        {
            return "";
        }

        ReadOnlySpan<byte> rest = strings[(int)offset..];
        int end = rest.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? rest : rest[..end]);
    }

    /// <summary>
    /// Sums over all threads that ever recorded, what they have not passed on included. Other threads go on meanwhile; each
    /// thread's part is of one moment.
    /// </summary>
    public CaptureCounters SumCounters()
    {
        CaptureCounters sum = default;
        // Every thread entry has one entry here, which says whose it is as soon as it counts anything.
        ReadOnlySpan<PendingEntry> pending = Table<PendingEntry>(TableId.Pending);
        ReadOnlySpan<ThreadEntry> threads = Threads;
        for (int i = 0; i < pending.Length; i++)
        {
            uint thread = Volatile.Read(ref Unsafe.AsRef(in pending[i].Thread));
            if ((thread != 0 || i == 0) && thread < threads.Length)
            {
                sum += SumThread(in threads[(int)thread], in pending[i]);
            }
        }

        return sum;
    }

    // An odd or a changed version: the thread was passing its part on, so some of it may have been read twice or not at all.
    private static CaptureCounters SumThread(in ThreadEntry thread, in PendingEntry pending)
    {
        const int Tries = 100;
        for (int attempt = 0; ; attempt++)
        {
            uint before = Volatile.Read(ref Unsafe.AsRef(in pending.Version));
            var sum = new CaptureCounters(
                (long)thread.AllocatedBlocks,
                (long)thread.AllocatedBytes,
                (long)thread.FreedBlocks,
                (long)thread.FreedBytes,
                (long)thread.ApproximateStacks);
            foreach (ref readonly PendingSlot slot in (ReadOnlySpan<PendingSlot>)pending.Slots)
            {
                sum += new CaptureCounters(
                    PendingSlot.Blocks(slot.Allocated),
                    PendingSlot.Bytes(slot.Allocated),
                    PendingSlot.Blocks(slot.Freed),
                    PendingSlot.Bytes(slot.Freed),
                    0);
            }

            Interlocked.MemoryBarrier();
            if (((before & 1) == 0 && before == Volatile.Read(ref Unsafe.AsRef(in pending.Version))) || attempt == Tries)
            {
                return sum;
            }

            Thread.SpinWait(1);
        }
    }

    private ReadOnlySpan<T> Table<T>(TableId id)
        where T : unmanaged
    {
        ref readonly TableEntry table = ref _header->Tables[(int)id];
        uint count = Volatile.Read(ref Unsafe.AsRef(in table.Count));
        return new ReadOnlySpan<T>((byte*)_header + table.OffsetBytes, (int)count);
    }
}

/// <summary>What was counted while recording; blocks and bytes.</summary>
internal readonly record struct CaptureCounters(
    long AllocatedBlocks,
    long AllocatedBytes,
    long FreedBlocks,
    long FreedBytes,
    long ApproximateStacks)
{
    public static CaptureCounters operator +(CaptureCounters a, CaptureCounters b) => new(
        a.AllocatedBlocks + b.AllocatedBlocks,
        a.AllocatedBytes + b.AllocatedBytes,
        a.FreedBlocks + b.FreedBlocks,
        a.FreedBytes + b.FreedBytes,
        a.ApproximateStacks + b.ApproximateStacks);

    public static CaptureCounters operator -(CaptureCounters a, CaptureCounters b) => new(
        a.AllocatedBlocks - b.AllocatedBlocks,
        a.AllocatedBytes - b.AllocatedBytes,
        a.FreedBlocks - b.FreedBlocks,
        a.FreedBytes - b.FreedBytes,
        a.ApproximateStacks - b.ApproximateStacks);
}
