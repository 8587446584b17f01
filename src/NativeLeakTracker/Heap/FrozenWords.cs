using System.Runtime.InteropServices;

namespace NativeLeaks.Heap;

/// <summary>
/// Reads the words of many ranges of frozen memory: small ones out of windows that neighbours share, large ones page by page, the
/// pages left out that were never touched. What was read lies in native memory: managed arrays full of addresses could be taken for
/// holders by a later search. For one caller at a time.
/// </summary>
internal sealed unsafe class FrozenWords : IDisposable
{
    private const int PageBytes = 4096;
    private const int WindowBytes = 16 * PageBytes;
    private const int Windows = 64;
    private readonly FrozenMemory _memory;
    private readonly ulong[] _starts = new ulong[Windows];
    private readonly int[] _lengths = new int[Windows];
    private ulong* _windows;

    /// <param name="memory">What to read.</param>
    public FrozenWords(FrozenMemory memory)
    {
        _memory = memory;
        Array.Fill(_starts, ulong.MaxValue);

        // One more, for what is read once.
        _windows = (ulong*)NativeMemory.Alloc(Windows + 1, WindowBytes);
    }

    /// <summary>Bytes that were read.</summary>
    public long BytesRead { get; private set; }

    /// <summary>What is called with words that stand in a row.</summary>
    public delegate void Visitor(ulong address, ReadOnlySpan<ulong> words);

    /// <summary>All aligned words of a range that can be read; in several pieces where it is large.</summary>
    public void Visit(ulong start, ulong end, Visitor visit)
    {
        start = (start + 7) & ~7UL;
        end &= ~7UL;
        if (start >= end)
        {
            return;
        }

        if (end - start > WindowBytes)
        {
            VisitLarge(start, end, visit);
            return;
        }

        while (start < end)
        {
            ulong window = start & ~(ulong)(WindowBytes - 1);
            ulong stop = Math.Min(end, window + WindowBytes);
            ReadOnlySpan<ulong> words = WindowAt(window);
            int first = (int)((start - window) / sizeof(ulong));
            int last = (int)((stop - window) / sizeof(ulong));
            if (last <= words.Length)
            {
                visit(start, words[first..last]);
            }
            else
            {
                // Something before is not mapped, or something behind.
                VisitDirectly(start, stop, visit);
            }

            start = window + WindowBytes;
        }
    }

    public void Dispose()
    {
        NativeMemory.Free(_windows);
        _windows = null;
    }

    private void VisitLarge(ulong start, ulong end, Visitor visit)
    {
        // A piece of pages at a time: the map of what is present has an entry for each.
        const ulong Piece = 64UL << 20;
        for (ulong piece = start & ~(ulong)(PageBytes - 1); piece < end; piece += Piece)
        {
            bool[] present = _memory.PresentPages(piece, Math.Min(piece + Piece, end));
            int pages = present.Length;
            for (int page = 0; page < pages;)
            {
                int run = page;
                while (run < pages && present[run] && run - page < WindowBytes / PageBytes)
                {
                    run++;
                }

                if (run == page)
                {
                    page++;
                    continue;
                }

                VisitDirectly(Math.Max(piece + ((ulong)page * PageBytes), start), Math.Min(piece + ((ulong)run * PageBytes), end), visit);
                page = run;
            }
        }
    }

    private void VisitDirectly(ulong start, ulong end, Visitor visit)
    {
        var words = new Span<ulong>(_windows + (Windows * (WindowBytes / sizeof(ulong))), (int)((end - start) / sizeof(ulong)));
        int read = _memory.Read(start, MemoryMarshal.AsBytes(words)) / sizeof(ulong);
        BytesRead += read * sizeof(ulong);
        if (read > 0)
        {
            visit(start, words[..read]);
        }
    }

    private ReadOnlySpan<ulong> WindowAt(ulong start)
    {
        int slot = (int)(start / WindowBytes % Windows);
        var words = new Span<ulong>(_windows + (slot * (WindowBytes / sizeof(ulong))), WindowBytes / sizeof(ulong));
        if (_starts[slot] != start)
        {
            _lengths[slot] = _memory.Read(start, MemoryMarshal.AsBytes(words)) / sizeof(ulong);
            _starts[slot] = start;
            BytesRead += _lengths[slot] * sizeof(ulong);
        }

        return words[.._lengths[slot]];
    }
}
