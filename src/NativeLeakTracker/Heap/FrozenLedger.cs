using NativeLeaks.Ledger;

namespace NativeLeaks.Heap;

/// <summary>
/// The ledger of this process with the live words of a frozen copy: what was allocated at that moment. The other tables only grow, and
/// are read where they are. Of a ledger in a file the words are not frozen; they are those of the moment when they are read.
/// </summary>
internal sealed class FrozenLedger(LedgerHome own, FrozenMemory memory) : LedgerHome
{
    public override ref readonly LedgerHeader Header => ref own.Header;

    public override bool IsInPlace => own.IsInPlace;

    public override ReadOnlySpan<T> Table<T>(TableId id) => own.Table<T>(id);

    public override LiveWords OpenWords() => own.Header.SharedBytes != 0 ? own.OpenWords() : new Words(memory);

    private sealed class Words(FrozenMemory memory) : LiveWords
    {
        private readonly ulong[] _page = new ulong[PerPage];

        public override bool[] PresentPages(in ChunkEntry chunk) => memory.PresentPages(chunk.Words, chunk.Words + ((ulong)chunk.WordCount * sizeof(ulong)));

        public override ReadOnlySpan<ulong> Page(in ChunkEntry chunk, int page)
        {
            // A chunk that was made after the copy is not there: nothing lived in it.
            Span<byte> bytes = System.Runtime.InteropServices.MemoryMarshal.AsBytes(_page.AsSpan());
            int read = memory.Read(chunk.Words + ((ulong)page * PageBytes), bytes);
            bytes[read..].Clear();
            return _page;
        }

        public override ulong Word(in ChunkEntry chunk, int index) =>
            memory.TryReadWord(chunk.Words + ((ulong)index * sizeof(ulong)), out ulong word) ? word : 0;

        public override void Dispose()
        {
        }
    }
}
