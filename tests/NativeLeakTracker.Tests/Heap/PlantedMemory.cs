using System.Runtime.InteropServices;
using NativeLeaks.Heap;

namespace NativeLeaks.Tests.Heap;

/// <summary>Memory that a test laid out word by word; what it did not is not mapped.</summary>
internal sealed class PlantedMemory : FrozenMemory
{
    private const ulong PageBytes = 4096;
    private readonly Dictionary<ulong, byte[]> _pages = [];

    public override int ProcessId => 0;

    public override IReadOnlyList<MemoryMapping> Mappings { get; } = [];

    public override IReadOnlyList<FrozenThread> Threads { get; } = [];

    public ulong this[ulong address]
    {
        set
        {
            ulong page = address & ~(PageBytes - 1);
            if (!_pages.TryGetValue(page, out byte[]? bytes))
            {
                _pages[page] = bytes = new byte[PageBytes];
            }

            MemoryMarshal.Write(bytes.AsSpan((int)(address - page)), value);
        }
    }

    public override int Read(ulong address, Span<byte> destination)
    {
        int read = 0;
        while (read < destination.Length && _pages.TryGetValue((address + (ulong)read) & ~(PageBytes - 1), out byte[]? page))
        {
            int offset = (int)((address + (ulong)read) % PageBytes);
            int count = Math.Min(destination.Length - read, page.Length - offset);
            page.AsSpan(offset, count).CopyTo(destination[read..]);
            read += count;
        }

        return read;
    }

    public override bool[] PresentPages(ulong start, ulong end)
    {
        ulong first = start & ~(PageBytes - 1);
        return [.. Enumerable.Range(0, (int)((end - first + PageBytes - 1) / PageBytes)).Select(i => _pages.ContainsKey(first + ((ulong)i * PageBytes)))];
    }
}
