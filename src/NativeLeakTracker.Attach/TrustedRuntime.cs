namespace NativeLeaks.Attach;

/// <summary>
/// To read a runtime, ClrMD loads the library that lies beside it and runs its code: with our rights, not with those of the
/// process that is looked into. Root must not run what another user put there.
/// </summary>
internal static class TrustedRuntime
{
    private const string ReaderName = "libmscordaccore.so";

    public static bool MayBeLoadedFrom(string runtimePath)
    {
        try
        {
            string? folder = Path.GetDirectoryName(runtimePath);
            return folder is not null && IsOurs(folder) && IsOurs(Path.Combine(folder, ReaderName));
        }
        catch (IOException)
        {
            return false;
        }
    }

    private static bool IsOurs(string path) => FileOwner.Of(path) is var owner && (owner == 0 || owner == FileOwner.Mine);
}
