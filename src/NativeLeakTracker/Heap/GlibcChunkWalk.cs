namespace NativeLeaks.Heap;

/// <summary>
/// From chunk to chunk. A chunk begins with the size of the one before, if that is free, and its own size, whose low bits say: 1 the one
/// before is in use, 2 it was mapped by itself, 4 it is of another arena than the main one. What the program uses begins behind these
/// two words and ends behind the first word of the next chunk.
/// </summary>
internal static class GlibcChunkWalk
{
    public const ulong HeaderBytes = 16, SmallestChunk = 32, PreviousInUse = 1, Mapped = 2, NotOfMain = 4, FlagBits = 7;
    public const ulong FenceBytes = 2 * FenceChunk;
    private const ulong FenceChunk = 16;

    /// <summary>Appends what is in use. False: the chunk at <paramref name="stoppedAt"/> leads nowhere.</summary>
    public static bool Walk(WordWindow words, GlibcRegion region, List<NativeNode> inUse, out ulong stoppedAt)
    {
        stoppedAt = region.Start;
        if (region.Start == region.End)
        {
            return true;
        }

        ulong chunk = region.Start;
        if (!words.TryRead(chunk + 8, out ulong head))
        {
            return false;
        }

        while (chunk < region.End)
        {
            stoppedAt = chunk;
            ulong size = head & ~FlagBits;
            if (!IsSize(size, chunk, region.End) || (head & Mapped) != 0)
            {
                return false;
            }

            ulong next = chunk + size;
            if (!words.TryRead(next + 8, out ulong nextHead))
            {
                return false;
            }

            if ((nextHead & PreviousInUse) != 0)
            {
                inUse.Add(new NativeNode(chunk + HeaderBytes, size - 8));
            }

            chunk = next;
            head = nextHead;
        }

        return chunk == region.End;
    }

    /// <summary>Where a run of chunks ends: at the top chunk, or at a fence, which keeps its last one from merging with what follows. 0 when
    /// it leads to neither.</summary>
    /// <param name="words">The memory.</param>
    /// <param name="start">The first chunk, if it is one.</param>
    /// <param name="end">Where the memory ends.</param>
    /// <param name="top">Of the main arena; 0: it is another arena's.</param>
    public static ulong FindStop(WordWindow words, ulong start, ulong end, ulong top)
    {
        ulong impossible = top != 0 ? Mapped | NotOfMain : Mapped;
        ulong previous = 0;
        for (ulong chunk = start; chunk < end;)
        {
            if (chunk == top)
            {
                return top;
            }

            if (!words.TryRead(chunk + 8, out ulong head))
            {
                return 0;
            }

            ulong size = head & ~FlagBits;
            if (size == FenceChunk)
            {
                return words.TryRead(chunk + FenceChunk + 8, out ulong second) && second is PreviousInUse or (FenceChunk | PreviousInUse) ? chunk : 0;
            }

            // What was left at the end of a heap was too little for a chunk and a fence, so that chunk is the fence.
            if (head == PreviousInUse && chunk + FenceChunk == end && previous != 0 && chunk - previous == SmallestChunk)
            {
                return previous;
            }

            if (!IsSize(size, chunk, end) || (head & impossible) != 0)
            {
                return 0;
            }

            previous = chunk;
            chunk += size;
        }

        return 0;
    }

    private static bool IsSize(ulong size, ulong chunk, ulong end) => size >= SmallestChunk && size % 16 == 0 && size <= end - chunk;
}
