using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace NativeLeaks.Heap;

/// <summary>Looks at words that stand in a row.</summary>
internal interface IWordVisitor
{
    /// <param name="address">Of the first word.</param>
    /// <param name="words">Valid until this returns.</param>
    void Visit(ulong address, ReadOnlySpan<ulong> words);
}

/// <summary>
/// Reads the words of many ranges of frozen memory: small ones out of windows that neighbours share, large ones page by page, the
/// pages left out that were never touched. What was read lies in native memory: managed arrays full of addresses could be taken for
/// holders by a later search. For one caller at a time.
/// </summary>
internal sealed unsafe class FrozenWords : IDisposable
{
    private const int PageBytes = 4096;
    private const int WindowBytes = 4 * PageBytes;
    private const int Windows = 512;
    private const int LargeBytes = 16 * PageBytes;
    private readonly FrozenMemory _memory;
    private readonly ulong[] _starts = new ulong[Windows];
    private readonly int[] _lengths = new int[Windows];
    private ulong* _windows;

    /// <param name="memory">What to read.</param>
    public FrozenWords(FrozenMemory memory)
    {
        _memory = memory;
        Array.Fill(_starts, ulong.MaxValue);

        // The last piece is for what is read once.
        _windows = (ulong*)NativeMemory.Alloc((Windows * WindowBytes) + LargeBytes);
    }

    /// <summary>Bytes that were read.</summary>
    public long BytesRead { get; private set; }

    /// <summary>All aligned words of a range that can be read; in several pieces where it is large.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Visit<TVisitor>(ulong start, ulong end, ref TVisitor visitor)
        where TVisitor : struct, IWordVisitor
    {
        start = (start + 7) & ~7UL;
        end &= ~7UL;
        if (start >= end)
        {
            return;
        }

        if (end - start > LargeBytes)
        {
            VisitLarge(start, end, ref visitor);
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
                visitor.Visit(start, words[first..last]);
            }
            else
            {
                // Something before is not mapped, or something behind.
                VisitDirectly(start, stop, ref visitor);
            }

            start = window + WindowBytes;
        }
    }

    public void Dispose()
    {
        NativeMemory.Free(_windows);
        _windows = null;
    }

    private void VisitLarge<TVisitor>(ulong start, ulong end, ref TVisitor visitor)
        where TVisitor : struct, IWordVisitor
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
                while (run < pages && present[run] && run - page < LargeBytes / PageBytes)
                {
                    run++;
                }

                if (run == page)
                {
                    page++;
                    continue;
                }

                VisitDirectly(Math.Max(piece + ((ulong)page * PageBytes), start), Math.Min(piece + ((ulong)run * PageBytes), end), ref visitor);
                page = run;
            }
        }
    }

    private void VisitDirectly<TVisitor>(ulong start, ulong end, ref TVisitor visitor)
        where TVisitor : struct, IWordVisitor
    {
        var words = new Span<ulong>(_windows + (Windows * (WindowBytes / sizeof(ulong))), (int)((end - start) / sizeof(ulong)));
        int read = _memory.Read(start, MemoryMarshal.AsBytes(words)) / sizeof(ulong);
        BytesRead += read * sizeof(ulong);
        if (read > 0)
        {
            visitor.Visit(start, words[..read]);
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
