using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace NativeLeaks.Ledger;

/// <summary>
/// A regular file, opened for reading. Whatever else may lie at the path is not opened at all: a pipe would hold the caller up,
/// and to open a device can be an act. .NET asks no question that tells them apart before it opens.
/// </summary>
internal sealed partial class RegularFile : IDisposable
{
    private readonly SafeFileHandle _file;

    private RegularFile(SafeFileHandle file) => _file = file;

    /// <summary>How many bytes it has now.</summary>
    public long LengthBytes => RandomAccess.GetLength(_file);

    /// <exception cref="FileNotFoundException">Nothing is there.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    /// <exception cref="InvalidDataException">It is no regular file.</exception>
    /// <exception cref="IOException">It cannot be read for another reason.</exception>
    public static RegularFile Open(string path)
    {
        // O_PATH finds the file without opening it; by its number the same file is opened, whatever the path means by then.
        using SafeFileHandle place = Open(path, OpenFlags.Path | OpenFlags.CloseOnExec, path);
        if (ModeOf(place, path) is var mode && (mode & Mode.TypeMask) != Mode.Regular)
        {
            throw new InvalidDataException($"{path} is not a regular file. Name the file itself.");
        }

        return new RegularFile(Open(
            $"/proc/self/fd/{place.DangerousGetHandle()}", OpenFlags.NonBlocking | OpenFlags.CloseOnExec, path));
    }

    /// <summary>Reads what there is of the bytes from an offset on; the rest is zero. Returns how many there were.</summary>
    public int Read(long offset, Span<byte> bytes)
    {
        int done = 0;
        while (done < bytes.Length)
        {
            int read = RandomAccess.Read(_file, bytes[done..], offset + done);
            if (read == 0)
            {
                bytes[done..].Clear();
                break;
            }

            done += read;
        }

        return done;
    }

    /// <summary>
    /// The parts of a range that hold data; the others were never written. Reading a hole gives zeros, but takes as long as
    /// reading. A file system that knows of no holes says that everything is data.
    /// </summary>
    public IEnumerable<(long Start, long End)> DataIn(long start, long end)
    {
        while (start < end)
        {
            long data = Seek(_file, start, SeekKind.Data);
            if (data < 0)
            {
                if (Marshal.GetLastPInvokeError() != NoSuchAddress)
                {
                    yield return (start, end);
                }

                yield break;
            }

            if (data >= end)
            {
                yield break;
            }

            long hole = Seek(_file, data, SeekKind.Hole);
            long stop = hole <= data ? end : Math.Min(hole, end);
            yield return (Math.Max(data, start), stop);
            start = stop;
        }
    }

    public void Dispose() => _file.Dispose();

    private static SafeFileHandle Open(string path, OpenFlags flags, string shownPath)
    {
        SafeFileHandle file = OpenFile(path, flags);
        if (!file.IsInvalid)
        {
            return file;
        }

        int error = Marshal.GetLastPInvokeError();
        file.Dispose();
        throw error switch
        {
            NoEntry or NotADirectory => new FileNotFoundException($"There is no file {shownPath}.", shownPath),
            AccessDenied or NotPermitted => new UnauthorizedAccessException(
                $"{shownPath} may not be read by this user. Run as its owner or as root."),
            _ => new IOException($"{shownPath} cannot be opened: {Marshal.GetPInvokeErrorMessage(error)}."),
        };
    }

    private static Mode ModeOf(SafeFileHandle file, string path)
    {
        if (GetStatus(file, "", EmptyPath, AskForType, out Status status) != 0)
        {
            throw new IOException($"{path} cannot be looked at: {Marshal.GetLastPInvokeErrorMessage()}.");
        }

        return status.Mode;
    }

    private const int NotPermitted = 1;
    private const int NoEntry = 2;
    private const int NoSuchAddress = 6;
    private const int AccessDenied = 13;
    private const int NotADirectory = 20;
    private const int EmptyPath = 0x1000;
    private const uint AskForType = 1;

    [Flags]
    private enum OpenFlags
    {
        None = 0,
        NonBlocking = 0x800,
        CloseOnExec = 0x80000,
        Path = 0x200000,
    }

    private enum SeekKind
    {
        Data = 3,
        Hole = 4,
    }

    private enum Mode : ushort
    {
        Regular = 0x8000,
        TypeMask = 0xf000,
    }

    // struct statx of Linux, of which only the mode is wanted.
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    private struct Status
    {
        [FieldOffset(28)]
        public Mode Mode;
    }

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial SafeFileHandle OpenFile(string path, OpenFlags flags);

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int GetStatus(SafeFileHandle folder, string path, int flags, uint mask, out Status status);

    [LibraryImport("libc", EntryPoint = "lseek64", SetLastError = true)]
    private static partial long Seek(SafeFileHandle file, long offset, SeekKind kind);
}
