using System.ComponentModel;
using NativeLeaks.Capture;
using NativeLeaks.Reports;

namespace NativeLeaks;

/// <summary>Called by the module initializer that the package adds to its consumers; not meant for anybody's code.</summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public static class NativeLeaksBootstrap
{
    private static int s_called;

    /// <summary>
    /// Installs the hooks, so that native imports bound from now on are seen, and starts recording where <c>NATIVELEAKS=1</c>
    /// asks for a report on exit. Never throws: a program must start whether it can be watched or not.
    /// </summary>
    public static void Initialize()
    {
        if (Interlocked.Exchange(ref s_called, 1) != 0)
        {
            return;
        }

        bool report = ExitSettings.IsRequested;
        if (!ShimEngine.IsSupportedPlatform)
        {
            if (report)
            {
                Unavailable.SayOnce("NATIVELEAKS is set, but native allocations are recorded on Linux x64 (glibc) only");
            }

            return;
        }

        if (!ShimEngine.TryInstall(out string? failure))
        {
            // Without a report to print, the first Start() says it, as an exception with a caller.
            if (report)
            {
                Unavailable.SayOnce(failure!);
            }
        }
        else if (report)
        {
            using QuietRegion quiet = QuietRegion.Enter();
            ExitReport.Schedule();
        }
    }
}
