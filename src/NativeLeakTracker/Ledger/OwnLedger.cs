namespace NativeLeaks.Ledger;

/// <summary>The ledger of this process, read where it is written.</summary>
internal sealed unsafe class OwnLedger : LedgerHome
{
    private readonly LedgerHeader* _header;

    public OwnLedger(nint header)
    {
        _header = (LedgerHeader*)header;
        if (_header->Magic != LedgerHeader.ExpectedMagic || _header->Version != LedgerHeader.ExpectedVersion)
        {
            throw new InvalidOperationException(
                $"The native shim's tables have version {_header->Version}; this library reads version " +
                $"{LedgerHeader.ExpectedVersion}. Use the shim that came with this version of NativeLeakTracker.");
        }
    }

    public override ref readonly LedgerHeader Header => ref *_header;

    public override bool IsInPlace => true;

    public override ReadOnlySpan<T> Table<T>(TableId id)
    {
        ref readonly TableEntry table = ref _header->Tables[(int)id];
        uint count = Volatile.Read(ref System.Runtime.CompilerServices.Unsafe.AsRef(in table.Count));
        return new ReadOnlySpan<T>((byte*)_header + table.OffsetBytes, (int)count);
    }

    public override LiveWords OpenWords() => new Words();

    private sealed class Words : LiveWords
    {
        private readonly PageMap _pages = PageMap.Open();

        public override bool[] PresentPages(in ChunkEntry chunk) => _pages.Present(chunk.Words, chunk.WordCount / PerPage);

        public override ReadOnlySpan<ulong> Page(in ChunkEntry chunk, int page) =>
            new((ulong*)chunk.Words + (page * PerPage), PerPage);

        public override ulong Word(in ChunkEntry chunk, int index)
        {
            ulong* word = (ulong*)chunk.Words + index;
            return _pages.Present((ulong)word, 1)[0] ? Volatile.Read(ref *word) : 0;
        }

        public override void Dispose() => _pages.Dispose();
    }
}
