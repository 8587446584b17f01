using System.Globalization;
using System.Runtime.InteropServices;

namespace NativeLeaks.Ledger;

/// <summary>
/// Which pages of a process hold data: /proc/PID/pagemap, 64 bits a page, bit 63 present, bit 62 swapped out
/// (Linux: Documentation/admin-guide/mm/pagemap.rst). Where it cannot be read, every page counts as present.
/// </summary>
internal sealed class PageMap : IDisposable
{
    private const ulong HasData = 3UL << 62;
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

    public bool[] Present(ulong address, int pageCount)
    {
        var present = new bool[pageCount];
        var entries = new ulong[pageCount];
        Span<byte> bytes = MemoryMarshal.AsBytes(entries.AsSpan());
        int read = _file is null ? 0 : RandomAccess.Read(_file.SafeFileHandle, bytes, (long)(address / 4096 * 8));
        for (int i = 0; i < pageCount; i++)
        {
            present[i] = (i + 1) * 8 > read || (entries[i] & HasData) != 0;
        }

        return present;
    }

    public void Dispose() => _file?.Dispose();
}
