using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace NativeLeaks.Files;

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
    public static RegularFile Open(string path) => Open(path, out Exception? failure) ?? throw failure!;

    /// <summary>Null when there is none, when it may not be read, and when it is a pipe, a device or empty.</summary>
    public static RegularFile? TryOpen(string path)
    {
        try
        {
            RegularFile? file = Open(path, out _);
            if (file is { LengthBytes: > 0 })
            {
                return file;
            }

            file?.Dispose();
        }
        catch (Exception e) when (IsFileTrouble(e))
        {
            // As if it were not there.
        }

        return null;
    }

    /// <summary>What reading, writing and looking for files throws when the files are at fault.</summary>
    public static bool IsFileTrouble(Exception e) =>
        e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException or
            System.Security.SecurityException;

    /// <summary>Hands the file over to a stream that closes it.</summary>
    public FileStream ToStream() => new(_file, FileAccess.Read);

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

    /// <summary>Fills the buffer; false when the file ends before or cannot be read.</summary>
    public bool TryRead(long offset, Span<byte> bytes)
    {
        try
        {
            return Read(offset, bytes) == bytes.Length;
        }
        catch (Exception e) when (IsFileTrouble(e) || e is ObjectDisposedException)
        {
            return false;
        }
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

    private static RegularFile? Open(string path, out Exception? failure)
    {
        if (path.Length == 0 || path.Contains('\0'))
        {
            failure = new FileNotFoundException($"There is no file '{path}'.", path);
            return null;
        }

        // Only suppression files are read on other systems; .NET's own questions have to do there.
        if (!OperatingSystem.IsLinux())
        {
            failure = null;
            return new RegularFile(File.OpenHandle(path));
        }

        // O_PATH finds the file without opening it; by its number the same file is opened, whatever the path means by then.
        using SafeFileHandle place = Open(path, OpenFlags.Path | OpenFlags.CloseOnExec, path, out failure);
        if (failure is not null)
        {
            return null;
        }

        if (GetStatus(place, "", EmptyPath, AskForType, out Status status) != 0)
        {
            failure = new IOException($"{path} cannot be looked at: {Marshal.GetLastPInvokeErrorMessage()}.");
            return null;
        }

        if ((status.Mode & Mode.TypeMask) != Mode.Regular)
        {
            failure = new InvalidDataException($"{path} is not a regular file. Name the file itself.");
            return null;
        }

        SafeFileHandle file = Open(
            $"/proc/self/fd/{place.DangerousGetHandle()}", OpenFlags.NonBlocking | OpenFlags.CloseOnExec, path, out failure);
        return failure is null ? new RegularFile(file) : null;
    }

    private static SafeFileHandle Open(string path, OpenFlags flags, string shownPath, out Exception? failure)
    {
        SafeFileHandle file = OpenFile(path, flags);
        int error = file.IsInvalid ? Marshal.GetLastPInvokeError() : 0;
        failure = error switch
        {
            0 => null,
            NoEntry or NotADirectory => new FileNotFoundException($"There is no file {shownPath}.", shownPath),
            AccessDenied or NotPermitted => new UnauthorizedAccessException(
                $"{shownPath} may not be read by this user. Run as its owner or as root."),
            _ => new IOException($"{shownPath} cannot be opened: {Marshal.GetPInvokeErrorMessage(error)}."),
        };
        return file;
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
