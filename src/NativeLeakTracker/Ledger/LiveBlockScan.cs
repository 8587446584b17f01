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
internal static class LiveBlockScan
{
    // No block is larger than the address space: in a damaged ledger, what stands in the place of a size is none.
    private const ulong MaxSizeBytes = 1UL << 47;

    public static void Visit<TVisitor>(LedgerReader ledger, ref TVisitor visitor)
        where TVisitor : ILiveBlockVisitor, allows ref struct
    {
        var chunks = new Dictionary<(ulong HeapStart, uint HeapShift), ChunkEntry>();
        ReadOnlySpan<ChunkEntry> inOrderOfBirth = ledger.Chunks;
        foreach (ref readonly ChunkEntry chunk in inOrderOfBirth)
        {
            if (chunk.Words != 0)
            {
                chunks.TryAdd((chunk.HeapStart, chunk.HeapShift), chunk);
            }
        }

        using LiveWords words = ledger.OpenWords();
        foreach (ref readonly ChunkEntry chunk in inOrderOfBirth)
        {
            if (chunk.Words != 0)
            {
                VisitChunk(chunk, chunks, words, ref visitor);
            }
        }

        // What the words refer to was complete before them, but perhaps not when a copy of the tables was made.
        ledger.Refresh();
    }

    private static void VisitChunk<TVisitor>(
        in ChunkEntry chunk,
        Dictionary<(ulong HeapStart, uint HeapShift), ChunkEntry> chunks,
        LiveWords words,
        ref TVisitor visitor)
        where TVisitor : ILiveBlockVisitor, allows ref struct
    {
        bool[] present = words.PresentPages(chunk);
        bool skip = EndsInSize(chunks, words, chunk);
        for (int page = 0; page < present.Length; page++)
        {
            if (!present[page])
            {
                continue;
            }

            ReadOnlySpan<ulong> content = words.Page(chunk, page);
            for (int i = 0; i < content.Length; i++)
            {
                ulong bits = Volatile.Read(ref System.Runtime.CompilerServices.Unsafe.AsRef(in content[i]));
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

                int index = (page * LiveWords.PerPage) + i;
                long size = word.Size;
                if (size == LiveWord.SizeEscape)
                {
                    skip = true;
                    ulong behind = i + 1 < content.Length
                        ? Volatile.Read(ref System.Runtime.CompilerServices.Unsafe.AsRef(in content[i + 1]))
                        : SizeBehind(chunks, words, chunk, index);
                    size = behind < MaxSizeBytes ? (long)behind : 0;
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

    /// <summary>Whether the last word of the chunk before leaves its size in the first word of this one.</summary>
    private static bool EndsInSize(
        Dictionary<(ulong HeapStart, uint HeapShift), ChunkEntry> chunks, LiveWords words, in ChunkEntry chunk) =>
        chunks.TryGetValue((chunk.HeapStart - (chunk.HeapEnd - chunk.HeapStart), chunk.HeapShift), out ChunkEntry before) &&
        new LiveWord(words.Word(before, before.WordCount - 1)) is { Context: >= LiveWord.RootContext, Size: LiveWord.SizeEscape };

    /// <summary>The word after the last one of a page: of the next page, or of the next chunk.</summary>
    private static ulong SizeBehind(
        Dictionary<(ulong HeapStart, uint HeapShift), ChunkEntry> chunks, LiveWords words, in ChunkEntry chunk, int index) =>
        index + 1 < chunk.WordCount ? words.Word(chunk, index + 1)
        : chunks.TryGetValue((chunk.HeapEnd, chunk.HeapShift), out ChunkEntry next) ? words.Word(next, 0)
        : 0;
}
