using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace NativeLeaks.Symbols.Native;

/// <summary>Opens files to be read, and nothing that is no file.</summary>
internal static partial class RegularFile
{
    private const int ReadOnly = 0, NoTerminal = 0x100, NonBlocking = 0x800, CloseOnExec = 0x80000;

    /// <summary>
    /// Opens a file and tells its length; null when there is none, or when it is a pipe, a device or empty. Never blocks: whoever
    /// can put a pipe in a library's place could otherwise stop the program that we are in.
    /// </summary>
    public static (SafeFileHandle Handle, long Length)? TryOpen(string path)
    {
        if (path.Length == 0 || path.Contains('\0'))
        {
            return null;
        }

        SafeFileHandle? handle = null;
        try
        {
            // Devices do things when they are opened, and have no length before.
            var info = new FileInfo(path);
            if (info.ResolveLinkTarget(returnFinalTarget: true) is FileInfo target)
            {
                info = target;
            }

            if (!info.Exists || info.Length == 0)
            {
                return null;
            }

            int descriptor = Open(path, ReadOnly | NoTerminal | NonBlocking | CloseOnExec, 0);
            if (descriptor < 0)
            {
                return null;
            }

            handle = new SafeFileHandle(descriptor, ownsHandle: true);
            long length = RandomAccess.GetLength(handle);
            if (length > 0)
            {
                SafeFileHandle opened = handle;
                handle = null;
                return (opened, length);
            }
        }
        catch (Exception e) when (IsFileTrouble(e))
        {
            // As if it were not there.
        }
        finally
        {
            handle?.Dispose();
        }

        return null;
    }

    /// <summary>What reading, writing and looking for files throws when the files are at fault.</summary>
    public static bool IsFileTrouble(Exception e) =>
        e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException or
            System.Security.SecurityException;

    /// <summary>Reads until the buffer is full; false when the file ends before.</summary>
    public static bool TryRead(SafeFileHandle handle, Span<byte> buffer, long offset)
    {
        try
        {
            while (buffer.Length > 0)
            {
                int count = RandomAccess.Read(handle, buffer, offset);
                if (count <= 0)
                {
                    return false;
                }

                buffer = buffer[count..];
                offset += count;
            }

            return true;
        }
        catch (Exception e) when (IsFileTrouble(e) || e is ObjectDisposedException)
        {
            return false;
        }
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags, int mode);
}
