using System.Runtime.CompilerServices;
using System.Text;

namespace NativeLeaks.Ledger;

/// <summary>A stack as ids of contexts, innermost first.</summary>
/// <param name="Contexts">The nodes, without the root.</param>
/// <param name="ReachesRoot">False: the ledger is damaged, and what follows outwards is unknown.</param>
internal sealed record ContextChain(IReadOnlyList<uint> Contexts, bool ReachesRoot);

/// <summary>
/// Reads the tables of a ledger, wherever its home is. Needs no lock: tables only grow, and an entry is complete before anything
/// refers to it. Safe from any thread. A ledger from a file may be damaged: ids go through the methods that check them.
/// </summary>
internal sealed class LedgerReader(LedgerHome home)
{
    // NLT_MAX_FRAMES. Only in a damaged ledger can a chain be longer: it may even lead back into itself.
    private const int MaxFrames = 4096;

    // The shim cuts longer ones; in a damaged ledger a text could be all that follows.
    private const int MaxTextBytes = 1023;

    /// <summary>The ledger of this process, by the address of its header.</summary>
    public LedgerReader(nint header)
        : this(new OwnLedger(header))
    {
    }

    public ref readonly LedgerHeader Header => ref home.Header;

    public ReadOnlySpan<ThreadEntry> Threads => home.Table<ThreadEntry>(TableId.Threads);

    public ReadOnlySpan<ModuleEntry> Modules => home.Table<ModuleEntry>(TableId.Modules);

    public ReadOnlySpan<ImageEntry> Images => home.Table<ImageEntry>(TableId.Images);

    public ReadOnlySpan<CodeEntry> Codes => home.Table<CodeEntry>(TableId.Codes);

    public ReadOnlySpan<ContextEntry> Contexts => home.Table<ContextEntry>(TableId.Contexts);

    public ReadOnlySpan<EpochEntry> Epochs => home.Table<EpochEntry>(TableId.Epochs);

    public ReadOnlySpan<TotalsEntry> Totals => home.Table<TotalsEntry>(TableId.Totals);

    public ReadOnlySpan<FinalizedEntry> Finalized => home.Table<FinalizedEntry>(TableId.Finalized);

    public ReadOnlySpan<PairingEntry> Pairings => home.Table<PairingEntry>(TableId.Pairings);

    public ReadOnlySpan<ChunkEntry> Chunks => home.Table<ChunkEntry>(TableId.Chunks);

    /// <summary>An id that is in no table gives an empty entry, as id 0 does.</summary>
    public ContextEntry Context(uint id) => Entry(Contexts, id);

    /// <inheritdoc cref="Context"/>
    public ModuleEntry Module(uint id) => Entry(Modules, id);

    /// <inheritdoc cref="Context"/>
    public CodeEntry Code(uint id) => Entry(Codes, id);

    /// <summary>The nodes from a context to the root, the root left out.</summary>
    public ContextChain Chain(uint context)
    {
        ReadOnlySpan<ContextEntry> contexts = Contexts;
        List<uint> chain = [];
        uint id = context;
        while (id > LiveWord.RootContext && id < contexts.Length && chain.Count < MaxFrames)
        {
            chain.Add(id);
            id = contexts[(int)id].Parent;
        }

        return new ContextChain(chain, id == LiveWord.RootContext);
    }

    /// <summary>Bytes that were copied into the ledger; empty where they do not lie in it.</summary>
    public ReadOnlySpan<byte> Blob(uint offset, uint bytes)
    {
        ReadOnlySpan<byte> blobs = home.Table<byte>(TableId.Blobs);
        return offset != 0 && offset <= blobs.Length && bytes <= blobs.Length - offset
            ? blobs.Slice((int)offset, (int)bytes)
            : default;
    }

    /// <summary>A text of the string table; empty for offset 0.</summary>
    public string Text(uint offset)
    {
        ReadOnlySpan<byte> strings = home.Table<byte>(TableId.Strings);
        if (offset == 0 || offset >= strings.Length)
        {
            return "";
        }

        ReadOnlySpan<byte> rest = strings[(int)offset..];
        rest = rest[..Math.Min(rest.Length, MaxTextBytes)];
        int end = rest.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? rest : rest[..end]);
    }

    /// <summary>For one pass over the live words.</summary>
    public LiveWords OpenWords() => home.OpenWords();

    /// <inheritdoc cref="LedgerHome.Refresh"/>
    public void Refresh() => home.Refresh();

    /// <summary>
    /// Sums over all threads that ever recorded, what they have not passed on included. Other threads go on meanwhile; each
    /// thread's part is of one moment.
    /// </summary>
    public CaptureCounters SumCounters() => home.IsInPlace ? SumInPlace() : SumCopies();

    private CaptureCounters SumInPlace()
    {
        CaptureCounters sum = default;
        // Every thread entry has one entry here, which says whose it is as soon as it counts anything.
        ReadOnlySpan<PendingEntry> pending = home.Table<PendingEntry>(TableId.Pending);
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

    // A copy shows what a thread had passed on before its part was copied, if the part's version is even and still the same
    // after its entry was copied as well. Whose was not is copied again with all the others: such moments are short.
    private CaptureCounters SumCopies()
    {
        const int Tries = 20;
        for (int attempt = 1; ; attempt++)
        {
            home.Refresh();
            ReadOnlySpan<PendingEntry> before = home.Table<PendingEntry>(TableId.Pending);
            home.Refresh();
            ReadOnlySpan<ThreadEntry> threads = Threads;
            home.Refresh();
            ReadOnlySpan<PendingEntry> pending = home.Table<PendingEntry>(TableId.Pending);
            CaptureCounters sum = default;
            bool isWhole = true;
            for (int i = 0; i < pending.Length; i++)
            {
                uint thread = pending[i].Thread;
                if ((thread != 0 || i == 0) && thread < threads.Length)
                {
                    sum += Add(in threads[(int)thread], in pending[i]);
                    isWhole &= i < before.Length && before[i].Version == pending[i].Version && (pending[i].Version & 1) == 0;
                }
            }

            if (isWhole || attempt == Tries)
            {
                return sum;
            }
        }
    }

    // An odd or a changed version: the thread was passing its part on, so some of it may have been read twice or not at all.
    private static CaptureCounters SumThread(in ThreadEntry thread, in PendingEntry pending)
    {
        const int Tries = 100;
        for (int attempt = 0; ; attempt++)
        {
            uint before = Volatile.Read(ref Unsafe.AsRef(in pending.Version));
            CaptureCounters sum = Add(in thread, in pending);
            Interlocked.MemoryBarrier();
            if (((before & 1) == 0 && before == Volatile.Read(ref Unsafe.AsRef(in pending.Version))) || attempt == Tries)
            {
                return sum;
            }

            Thread.SpinWait(1);
        }
    }

    private static CaptureCounters Add(in ThreadEntry thread, in PendingEntry pending)
    {
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

        return sum;
    }

    private static T Entry<T>(ReadOnlySpan<T> table, uint id)
        where T : unmanaged =>
        id < table.Length ? table[(int)id] : default;
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
