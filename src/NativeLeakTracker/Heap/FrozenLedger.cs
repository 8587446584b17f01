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
        private const int MaxRun = 32;
        private readonly ulong[] _pages = new ulong[MaxRun * PerPage];

        // Of the chunk that was asked for last: what is there, and which of it was read.
        private bool[] _present = [];
        private ulong _chunk;
        private int _first, _count;

        public override bool[] PresentPages(in ChunkEntry chunk)
        {
            (_chunk, _count) = (chunk.Words, 0);
            return _present = memory.PresentPages(chunk.Words, chunk.Words + ((ulong)chunk.WordCount * sizeof(ulong)));
        }

        public override ReadOnlySpan<ulong> Page(in ChunkEntry chunk, int page)
        {
            if (_chunk != chunk.Words || page < _first || page >= _first + _count)
            {
                ReadRun(chunk, page);
            }

            return _pages.AsSpan((page - _first) * PerPage, PerPage);
        }

        public override ulong Word(in ChunkEntry chunk, int index) =>
            memory.TryReadWord(chunk.Words + ((ulong)index * sizeof(ulong)), out ulong word) ? word : 0;

        public override void Dispose()
        {
        }

        // A call of the kernel takes as long as to read a page.
        private void ReadRun(in ChunkEntry chunk, int page)
        {
            int count = 1;
            while (count < MaxRun && _chunk == chunk.Words && page + count < _present.Length && _present[page + count])
            {
                count++;
            }

            // A chunk that was made after the copy is not there: nothing lived in it.
            Span<byte> bytes = System.Runtime.InteropServices.MemoryMarshal.AsBytes(_pages.AsSpan(0, count * PerPage));
            int read = memory.Read(chunk.Words + ((ulong)page * PageBytes), bytes);
            bytes[read..].Clear();
            (_chunk, _first, _count) = (chunk.Words, page, count);
        }
    }
}
