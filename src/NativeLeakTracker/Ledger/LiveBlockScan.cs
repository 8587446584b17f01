namespace NativeLeaks.Ledger;

/// <summary>A block that is allocated now.</summary>
internal readonly record struct LiveBlock(ulong Address, long SizeBytes, uint Context, uint Epoch);

internal interface ILiveBlockVisitor
{
    void Visit(in LiveBlock block);
}

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
        foreach (ref readonly ChunkEntry chunk in ledger.Chunks)
        {
            if (chunk.Words != 0)
            {
                VisitChunk(ledger, chunk, pages, ref visitor);
            }
        }
    }

    private static void VisitChunk<TVisitor>(
        LedgerReader ledger, in ChunkEntry chunk, PageMap pages, ref TVisitor visitor)
        where TVisitor : ILiveBlockVisitor, allows ref struct
    {
        ulong* words = (ulong*)chunk.Words;
        bool[] present = pages.Present(chunk.Words, chunk.WordCount / WordsPerPage);
        bool skip = EndsInSize(Before(ledger, chunk));
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
                if (bits == 0 || skip)
                {
                    skip = false;
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
                    skip = true;
                    size = index + 1 < chunk.WordCount ? (long)Volatile.Read(ref words[index + 1]) : SizeBehind(ledger, chunk);
                }

                visitor.Visit(new LiveBlock(AddressOf(chunk, index, word), size, word.Context, word.Epoch));
            }
        }
    }

    private static ulong AddressOf(in ChunkEntry chunk, int index, LiveWord word)
    {
        ulong slot = chunk.HeapStart + ((ulong)index << (int)chunk.HeapShift);
        return (slot & ~31UL) | ((ulong)word.Quarter << 3);
    }

    /// <summary>Whether the last word of a chunk leaves its size in the first word of the next.</summary>
    private static bool EndsInSize(ChunkEntry? chunk) =>
        chunk is { } c && new LiveWord(((ulong*)c.Words)[c.WordCount - 1]) is { Context: >= LiveWord.RootContext, Size: LiveWord.SizeEscape };

    private static long SizeBehind(LedgerReader ledger, in ChunkEntry chunk)
    {
        foreach (ref readonly ChunkEntry other in ledger.Chunks)
        {
            if (other.HeapStart == chunk.HeapEnd && other.HeapShift == chunk.HeapShift && other.Words != 0)
            {
                return (long)*(ulong*)other.Words;
            }
        }

        return 0;
    }

    private static ChunkEntry? Before(LedgerReader ledger, in ChunkEntry chunk)
    {
        foreach (ref readonly ChunkEntry other in ledger.Chunks)
        {
            if (other.HeapEnd == chunk.HeapStart && other.HeapShift == chunk.HeapShift && other.Words != 0)
            {
                return other;
            }
        }

        return null;
    }
}
