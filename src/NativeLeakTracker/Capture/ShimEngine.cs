using System.Runtime.InteropServices;
using NativeLeaks.Ledger;

namespace NativeLeaks.Capture;

/// <summary>
/// The capture engine as the library sees it: absent, installed, or failed with a reason. Installed once for the life of
/// the process. Thread-safe.
/// </summary>
internal static class ShimEngine
{
    private static readonly Lock s_lock = new();
    private static LedgerReader? s_ledger;
    private static string? s_failure;

    /// <summary>Whether this platform is one that the engine runs on at all.</summary>
    public static bool IsSupportedPlatform =>
        OperatingSystem.IsLinux() &&
        RuntimeInformation.ProcessArchitecture == Architecture.X64 &&
        !RuntimeInformation.RuntimeIdentifier.Contains("musl", StringComparison.Ordinal) &&
        System.Runtime.CompilerServices.RuntimeFeature.IsDynamicCodeSupported;

    /// <summary>The engine's tables; null until <see cref="TryInstall"/> succeeded.</summary>
    public static LedgerReader? Ledger => Volatile.Read(ref s_ledger);

    /// <summary>Where they are; null until <see cref="TryInstall"/> succeeded.</summary>
    public static LedgerHome? Home { get; private set; }

    /// <summary>Whether allocations are being recorded now, by any scope.</summary>
    public static bool IsRecording => Ledger is { } ledger && ledger.Header.Recording != 0;

    /// <summary>Puts the hooks in place. False: <paramref name="failure"/> says why; the answer does not change later.</summary>
    public static bool TryInstall(out string? failure)
    {
        lock (s_lock)
        {
            if (s_ledger is null && s_failure is null)
            {
                s_failure = Install();
            }

            failure = s_failure;
            return s_ledger is not null;
        }
    }

    private static string? Install()
    {
        if (!IsSupportedPlatform)
        {
            return $"native allocations are recorded on Linux x64 (glibc) only, and this is {RuntimeInformation.RuntimeIdentifier}";
        }

        try
        {
            if (ShimLibrary.GetAbiVersion() is var abi and not ShimLibrary.AbiVersion)
            {
                return $"the native shim speaks version {abi}, this library version {ShimLibrary.AbiVersion}; " +
                       "use the shim that came with this version of NativeLeakTracker";
            }

            ShimLibrary.Status status = ShimLibrary.Install();
            if (status != ShimLibrary.Status.Ok)
            {
                return Describe(status);
            }

            Home = new OwnLedger(ShimLibrary.GetLedger());
            Volatile.Write(ref s_ledger, new LedgerReader(Home));
            CollectionWatch.Begin();
            return null;
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException or BadImageFormatException
                                      or InvalidOperationException)
        {
            return "the native shim could not be loaded: " + e.Message;
        }
    }

    private static string Describe(ShimLibrary.Status status) => status switch
    {
        ShimLibrary.Status.NoMemory => "no address space for the tables (is RLIMIT_AS, 'ulimit -v', set?)",
        ShimLibrary.Status.NoAllocator => "no malloc was found in this process",
        ShimLibrary.Status.PatchFailed => "an import table could not be changed (is a security module forbidding mprotect?)",
        ShimLibrary.Status.PreloadedTwice => "another copy of the native shim already records in this process",
        _ => $"the native shim reported status {(int)status}",
    };
}
