namespace NativeLeaks.Ledger;

/// <summary>A block that is allocated now.</summary>
internal readonly record struct LiveBlock(ulong Address, long SizeBytes, uint Context, uint Epoch);

/// <summary>
/// Enumerates the live words of every chunk. Pages that were never written are skipped unread: reading them would make
/// them present. Other threads may allocate and free meanwhile; each word is read once, so a block is either seen whole or
/// not at all.
/// </summary>
internal static unsafe class LiveBlockScan
{
    private const int PageBytes = 4096;
    private const int WordsPerPage = PageBytes / sizeof(ulong);

    public static void Visit<TVisitor>(LedgerReader ledger, ref TVisitor visitor)
        where TVisitor : ILiveBlockVisitor, allows ref struct
    {
        using PageMap pages = PageMap.Open();
        // The size of a block that fills the last word of a chunk stands in the first word of the next.
        HashSet<ulong> sizeWords = [];
        foreach (ref readonly ChunkEntry chunk in ledger.Chunks)
        {
            if (chunk.Words != 0)
            {
                VisitChunk(ledger, chunk, pages, sizeWords, ref visitor);
            }
        }
    }

    private static void VisitChunk<TVisitor>(
        LedgerReader ledger, in ChunkEntry chunk, PageMap pages, HashSet<ulong> sizeWords, ref TVisitor visitor)
        where TVisitor : ILiveBlockVisitor, allows ref struct
    {
        ulong* words = (ulong*)chunk.Words;
        bool[] present = pages.Present(chunk.Words, LiveWord.WordsPerChunk / WordsPerPage);
        for (int page = 0; page < present.Length; page++)
        {
            if (!present[page])
            {
                continue;
            }

            int end = (page + 1) * WordsPerPage;
            for (int index = page * WordsPerPage; index < end; index++)
            {
                ulong bits = Volatile.Read(ref words[index]);
                if (bits == 0)
                {
                    continue;
                }

                ulong slot = chunk.HeapStart + ((ulong)index * LiveWord.HeapBytesPerWord);
                if (sizeWords.Count > 0 && sizeWords.Remove(slot))
                {
                    continue;
                }

                var word = new LiveWord(bits);
                if (word.Context < LiveWord.RootContext)
                {
                    continue; // a size whose block went away between two reads
                }

                long size = word.Size;
                if (size == LiveWord.SizeEscape)
                {
                    sizeWords.Add(slot + LiveWord.HeapBytesPerWord);
                    size = index + 1 < LiveWord.WordsPerChunk
                        ? (long)Volatile.Read(ref words[index + 1])
                        : SizeInNextChunk(ledger, chunk);
                }

                visitor.Visit(new LiveBlock(slot + (word.Half * 16), size, word.Context, word.Epoch));
            }
        }
    }

    private static long SizeInNextChunk(LedgerReader ledger, in ChunkEntry chunk)
    {
        foreach (ref readonly ChunkEntry other in ledger.Chunks)
        {
            if (other.HeapStart == chunk.HeapStart + ((ulong)LiveWord.WordsPerChunk * LiveWord.HeapBytesPerWord))
            {
                return (long)*(ulong*)other.Words;
            }
        }

        return 0;
    }
}

internal interface ILiveBlockVisitor
{
    void Visit(in LiveBlock block);
}
