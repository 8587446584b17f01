using System.Globalization;
using System.Runtime.InteropServices;
using NativeLeaks.Heap;

namespace NativeLeaks.Ledger;

/// <summary>
/// Which pages of a process hold data: /proc/PID/pagemap, 64 bits a page, bit 63 present, bit 62 swapped out
/// (Linux: Documentation/admin-guide/mm/pagemap.rst). Where it cannot be read, every page counts as present.
/// </summary>
internal sealed class PageMap : IDisposable
{
    private const ulong HasData = 3UL << 62;
    private const ulong PageBytes = 4096;
    private readonly FileStream? _file;

    private PageMap(FileStream? file) => _file = file;

    /// <summary>Of this process.</summary>
    public static PageMap Open() => Open("/proc/self/pagemap");

    /// <summary>Of another process, which this one may trace.</summary>
    public static PageMap Open(int processId) => Open(string.Create(CultureInfo.InvariantCulture, $"/proc/{processId}/pagemap"));

    private static PageMap Open(string path)
    {
        try
        {
            return new PageMap(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 0));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new PageMap(null);
        }
    }

    /// <summary>The pages of a range that certainly hold data, as runs. None where that cannot be told.</summary>
    public List<AddressRange> InUse(ulong start, ulong end)
    {
        const int Pages = 1 << 14;
        List<AddressRange> runs = [];
        var entries = new ulong[Pages];
        for (ulong piece = start & ~(PageBytes - 1); piece < end && _file is not null; piece += Pages * PageBytes)
        {
            int count = (int)Math.Min(Pages, (end - piece + PageBytes - 1) / PageBytes);
            int read = ReadEntries(piece, entries.AsSpan(0, count));
            for (int page = 0; page < read; page++)
            {
                ulong address = piece + ((ulong)page * PageBytes);
                if ((entries[page] & HasData) == 0)
                {
                    continue;
                }

                if (runs.Count > 0 && runs[^1].End == address)
                {
                    runs[^1] = runs[^1] with { End = address + PageBytes };
                }
                else
                {
                    runs.Add(new AddressRange(address, address + PageBytes));
                }
            }
        }

        return runs;
    }

    public bool[] Present(ulong address, int pageCount)
    {
        var present = new bool[pageCount];
        var entries = new ulong[pageCount];
        int read = ReadEntries(address, entries);
        for (int i = 0; i < pageCount; i++)
        {
            present[i] = i >= read || (entries[i] & HasData) != 0;
        }

        return present;
    }

    // How many could be read.
    private int ReadEntries(ulong address, Span<ulong> entries)
    {
        try
        {
            return _file is null ? 0
                : RandomAccess.Read(_file.SafeFileHandle, MemoryMarshal.AsBytes(entries), (long)(address / PageBytes * sizeof(ulong))) / sizeof(ulong);
        }
        catch (IOException)
        {
            return 0; // the process has ended
        }
    }

    public void Dispose() => _file?.Dispose();
}
