using System.Runtime.InteropServices;

namespace NativeLeaks.Ledger;

/// <summary>
/// Which pages of this process hold data: /proc/self/pagemap, 64 bits a page, bit 63 present, bit 62 swapped out
/// (Linux: Documentation/admin-guide/mm/pagemap.rst). Where it cannot be read, every page counts as present.
/// </summary>
internal sealed class PageMap : IDisposable
{
    private const ulong HasData = 3UL << 62;
    private readonly FileStream? _file;

    private PageMap(FileStream? file) => _file = file;

    public static PageMap Open()
    {
        try
        {
            return new PageMap(new FileStream("/proc/self/pagemap", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 0));
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
