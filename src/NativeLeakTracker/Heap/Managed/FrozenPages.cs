using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace NativeLeaks.Heap.Managed;

/// <summary>
/// Reads many words that lie near one another, in no order: a page at a time, and each page once. Not thread-safe; it grows by a page for
/// each that is asked for.
/// </summary>
internal sealed class FrozenPages(FrozenMemory memory)
{
    private const int PageBytes = 4096;

    private readonly Dictionary<ulong, byte[]> _pages = [];

    /// <summary>A value that does not cross a page; false: it is not mapped, or does.</summary>
    public bool TryRead<T>(ulong address, out T value)
        where T : unmanaged
    {
        ulong page = address & ~(ulong)(PageBytes - 1);
        if (!_pages.TryGetValue(page, out byte[]? bytes))
        {
            bytes = new byte[PageBytes];
            int read = memory.Read(page, bytes);
            _pages[page] = bytes = read == PageBytes ? bytes : bytes[..read];
        }

        int at = (int)(address - page);
        bool isRead = at + Unsafe.SizeOf<T>() <= bytes.Length;
        value = isRead ? MemoryMarshal.Read<T>(bytes.AsSpan(at)) : default;
        return isRead;
    }
}
