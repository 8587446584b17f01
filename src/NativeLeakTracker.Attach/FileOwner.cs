using System.Runtime.InteropServices;

namespace NativeLeaks.Attach;

/// <summary>Whose a file is: .NET does not say.</summary>
internal static partial class FileOwner
{
    private const int WorkingDirectory = -100;
    private const uint AskForOwner = 8;

    /// <summary>The user that this process acts as.</summary>
    public static uint Mine => GetUser();

    /// <exception cref="FileNotFoundException">Nothing is there, or it cannot be seen.</exception>
    public static uint Of(string path) =>
        GetStatus(WorkingDirectory, path, 0, AskForOwner, out Status status) == 0
            ? status.Owner
            : throw new FileNotFoundException($"There is no {path}.", path);

    // struct statx of Linux, of which only the owner is wanted.
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    private struct Status
    {
        [FieldOffset(20)]
        public uint Owner;
    }

    [LibraryImport("libc", EntryPoint = "geteuid")]
    private static partial uint GetUser();

    [LibraryImport("libc", EntryPoint = "statx", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int GetStatus(int folder, string path, int flags, uint mask, out Status status);
}
