using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace NativeLeaks.Ledger;

/// <summary>
/// The ledger in a file (NATIVELEAKS_LEDGER), of a process that lives or is dead. Anybody may have written the file: everything
/// that could lead a reader astray is checked, once for the layout, and at each reading for what may change. Safe from any thread.
/// </summary>
/// <remarks>
/// The file is read with pread into copies, not mapped: a file that is cut short meanwhile is then an error and no SIGBUS, and
/// a look at a page that was never written does not make one, which on a full tmpfs would take the last room from the
/// program. The copies are of the entries that exist, not of the capacity. A live word is read as a part of its page; Linux
/// copies aligned words whole.
/// </remarks>
internal sealed class LedgerFile : LedgerHome, IDisposable
{
    // The tables take some 700 MB where nothing limits them; a file that says much more is none of ours.
    private const ulong MaxTableBytes = 1UL << 30;
    private const int HeapAddressBits = 47;

    // NLT_WORD_HEAP_SHIFT, NLT_FINE_HEAP_SHIFT
    private const uint CoarseShift = 5;
    private const uint FineShift = 3;

    private static readonly (TableId Id, int EntryBytes)[] s_read =
    [
        (TableId.Threads, Unsafe.SizeOf<ThreadEntry>()),
        (TableId.Modules, Unsafe.SizeOf<ModuleEntry>()),
        (TableId.Codes, Unsafe.SizeOf<CodeEntry>()),
        (TableId.Contexts, Unsafe.SizeOf<ContextEntry>()),
        (TableId.Epochs, Unsafe.SizeOf<EpochEntry>()),
        (TableId.Scopes, Unsafe.SizeOf<ScopeEntry>()),
        (TableId.Finalized, Unsafe.SizeOf<FinalizedEntry>()),
        (TableId.Strings, sizeof(byte)),
        (TableId.Chunks, Unsafe.SizeOf<ChunkEntry>()),
        (TableId.Totals, Unsafe.SizeOf<TotalsEntry>()),
        (TableId.Pending, Unsafe.SizeOf<PendingEntry>()),
        (TableId.Images, Unsafe.SizeOf<ImageEntry>()),
        (TableId.Blobs, sizeof(byte)),
        (TableId.Pairings, Unsafe.SizeOf<PairingEntry>()),
    ];

    private readonly Lock _lock = new();
    private readonly RegularFile _file;
    private readonly string _path;
    private readonly Dictionary<TableId, Array> _copies = [];

    // The header as the file was opened: where the tables are does not change any more.
    private readonly HeaderCopy _layout;
    private HeaderCopy _header;

    private LedgerFile(RegularFile file, string path)
    {
        _file = file;
        _path = path;
        _layout = _header = new HeaderCopy(file);
        CheckLayout();
        Ledger = new LedgerReader(this);
    }

    /// <summary>What the file holds.</summary>
    public LedgerReader Ledger { get; }

    /// <summary>Chunks that cannot be where the file says they are: their blocks are lost.</summary>
    public int DamagedChunks { get; private set; }

    public override bool IsInPlace => false;

    public override ref readonly LedgerHeader Header => ref Volatile.Read(ref _header).Value;

    /// <exception cref="FileNotFoundException">Nothing is there.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    /// <exception cref="InvalidDataException">It is no ledger, or one of another version, or damaged: the message says what to do.</exception>
    /// <exception cref="IOException">It cannot be read for another reason.</exception>
    public static LedgerFile Open(string path)
    {
        RegularFile file = RegularFile.Open(path);
        try
        {
            return new LedgerFile(file, path);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    public override ReadOnlySpan<T> Table<T>(TableId id)
    {
        lock (_lock)
        {
            if (!_copies.TryGetValue(id, out Array? copy))
            {
                T[] entries = Copy<T>(id);
                _copies[id] = copy = entries;
                if (entries is ChunkEntry[] chunks)
                {
                    DamagedChunks = DropDamaged(chunks);
                }
            }

            return (T[])copy;
        }
    }

    public override LiveWords OpenWords() => new Words(_file);

    public override void Refresh()
    {
        lock (_lock)
        {
            _copies.Clear();
            Volatile.Write(ref _header, new HeaderCopy(_file));
        }
    }

    public void Dispose() => _file.Dispose();

    private void CheckLayout()
    {
        ref readonly LedgerHeader header = ref _layout.Value;
        if (header.Magic != LedgerHeader.ExpectedMagic)
        {
            throw new InvalidDataException(
                $"{_path} is not a ledger, or its program has not begun to record. Name the file that NATIVELEAKS_LEDGER named.");
        }

        if (header.Version != LedgerHeader.ExpectedVersion)
        {
            throw new InvalidDataException(
                $"The ledger {_path} has version {header.Version}; this library reads version {LedgerHeader.ExpectedVersion}. " +
                "Use the version of NativeLeakTracker that recorded it.");
        }

        if (header.HeaderBytes != Unsafe.SizeOf<LedgerHeader>())
        {
            throw Damaged($"its header has {header.HeaderBytes} bytes");
        }

        if (header.SharedBytes > (ulong)_file.LengthBytes)
        {
            throw Damaged($"{header.SharedBytes} bytes were written, and {_file.LengthBytes} are there");
        }

        if (header.SizeBytes > Math.Min(header.SharedBytes, MaxTableBytes))
        {
            throw Damaged($"its tables would have {header.SizeBytes} bytes");
        }

        CheckTables(header);
    }

    private void CheckTables(in LedgerHeader header)
    {
        ulong sum = header.HeaderBytes;
        ReadOnlySpan<TableEntry> tables = header.Tables;
        for (int i = 0; i < tables.Length; i++)
        {
            ref readonly TableEntry table = ref tables[i];
            ulong bytes = (ulong)table.EntryBytes * table.Capacity;
            if (table.OffsetBytes < header.HeaderBytes || table.OffsetBytes > header.SizeBytes
                || bytes > header.SizeBytes - table.OffsetBytes)
            {
                throw Damaged($"table {(TableId)i} does not lie inside it");
            }

            sum += bytes;
        }

        // Tables that lie upon each other could otherwise be many times as large as the file.
        if (sum > header.SizeBytes)
        {
            throw Damaged("its tables overlap");
        }

        foreach ((TableId id, int entryBytes) in s_read)
        {
            if (tables[(int)id].EntryBytes != entryBytes)
            {
                throw Damaged($"entries of table {id} have {tables[(int)id].EntryBytes} bytes instead of {entryBytes}");
            }
        }
    }

    private InvalidDataException Damaged(string what) => new($"The ledger {_path} is damaged: {what}. Record again.");

    // Up to the last entry of which a byte was ever written: a count may say more, in a damaged file or in one that is being written.
    private T[] Copy<T>(TableId id)
        where T : unmanaged
    {
        ref readonly TableEntry table = ref _layout.Value.Tables[(int)id];
        int entryBytes = Unsafe.SizeOf<T>();
        if (table.EntryBytes != entryBytes)
        {
            throw Damaged($"entries of table {id} have {table.EntryBytes} bytes instead of {entryBytes}");
        }

        uint count = Math.Min(new HeaderCopy(_file).Value.Tables[(int)id].Count, table.Capacity);
        long start = (long)table.OffsetBytes, end = start + ((long)count * entryBytes);
        List<(long Start, long End)> data = [.. _file.DataIn(start, end)];
        if (data.Count == 0)
        {
            return [];
        }

        var entries = new T[(data[^1].End - start + entryBytes - 1) / entryBytes];
        foreach ((long from, long to) in data)
        {
            ReadInto(entries, from - start, from, to - from);
        }

        return entries;
    }

    // A span of bytes ends at 2 GB; a table is smaller (MaxTableBytes).
    private void ReadInto<T>(T[] entries, long place, long offset, long length)
        where T : unmanaged =>
        _file.Read(offset, MemoryMarshal.AsBytes(entries.AsSpan()).Slice((int)place, (int)length));

    /// <summary>
    /// Empties the entries whose words cannot lie where they say: outside of the file or inside the tables. Of two that lie upon
    /// each other the second is wrong: a scan must not read the same part of the file a quarter of a million times.
    /// </summary>
    private int DropDamaged(ChunkEntry[] chunks)
    {
        int[] byPlace = [.. Enumerable.Range(0, chunks.Length).Where(i => chunks[i].Words != 0)
            .OrderBy(i => chunks[i].FileOffset)];
        ref readonly LedgerHeader header = ref _layout.Value;
        ulong free = header.SizeBytes;
        int damaged = 0;
        foreach (int i in byPlace)
        {
            ref readonly ChunkEntry chunk = ref chunks[i];
            if (IsPossible(chunk) && chunk.FileOffset >= free && chunk.FileOffset <= header.SharedBytes
                && (ulong)chunk.WordCount * sizeof(ulong) <= header.SharedBytes - chunk.FileOffset)
            {
                free = chunk.FileOffset + ((ulong)chunk.WordCount * sizeof(ulong));
            }
            else
            {
                chunks[i] = default;
                damaged++;
            }
        }

        return damaged;
    }

    private static bool IsPossible(in ChunkEntry chunk) =>
        chunk.HeapShift is CoarseShift or FineShift
        && chunk.HeapStart % (chunk.HeapEnd - chunk.HeapStart) == 0
        && chunk.HeapStart >> HeapAddressBits == 0;

    /// <summary>A header that stays as it was read.</summary>
    private sealed class HeaderCopy
    {
        public readonly LedgerHeader Value;

        public HeaderCopy(RegularFile file) => file.Read(0, MemoryMarshal.AsBytes(new Span<LedgerHeader>(ref Value)));
    }

    private sealed class Words(RegularFile file) : LiveWords
    {
        private readonly ulong[] _page = new ulong[PerPage];

        public override bool[] PresentPages(in ChunkEntry chunk)
        {
            var present = new bool[chunk.WordCount / PerPage];
            long start = (long)chunk.FileOffset;
            foreach ((long from, long to) in file.DataIn(start, start + ((long)chunk.WordCount * sizeof(ulong))))
            {
                int first = (int)((from - start) / PageBytes), last = (int)((to - start - 1) / PageBytes);
                present.AsSpan(first, last - first + 1).Fill(true);
            }

            return present;
        }

        public override ReadOnlySpan<ulong> Page(in ChunkEntry chunk, int page)
        {
            file.Read((long)chunk.FileOffset + ((long)page * PageBytes), MemoryMarshal.AsBytes(_page.AsSpan()));
            return _page;
        }

        public override ulong Word(in ChunkEntry chunk, int index)
        {
            ulong word = 0;
            file.Read((long)chunk.FileOffset + ((long)index * sizeof(ulong)), MemoryMarshal.AsBytes(new Span<ulong>(ref word)));
            return word;
        }

        public override void Dispose()
        {
            // The file is the ledger's.
        }
    }
}
