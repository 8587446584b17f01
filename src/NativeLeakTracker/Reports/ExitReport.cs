using NativeLeaks.Analysis;
using NativeLeaks.Capture;
using NativeLeaks.Ledger;

namespace NativeLeaks.Reports;

/// <summary>Records until the process exits and then writes the report. Never disturbs the exit itself.</summary>
internal static class ExitReport
{
    private static int s_scheduled;

    public static void Schedule()
    {
        if (Interlocked.Exchange(ref s_scheduled, 1) != 0)
        {
            return;
        }

        if (!ShimEngine.TryInstall(out string? failure))
        {
            if (ShimEngine.IsSupportedPlatform)
            {
                throw new InvalidOperationException("Native allocations cannot be recorded: " + failure);
            }

            Unavailable.SayOnce(failure!);
            return;
        }

        LedgerReader ledger = ShimEngine.Ledger!;
        DateTimeOffset started = DateTimeOffset.UtcNow;
        CaptureCounters before = ledger.Header.Mode == CaptureMode.Preload ? default : ledger.SumCounters();
        ulong firstSequence = ledger.Header.Mode == CaptureMode.Preload ? 0 : ledger.Header.EpochsBegun + 1;
        ShimLibrary.BeginRecording();
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Write(ledger, firstSequence, before, started);
    }

    private static unsafe void Write(LedgerReader ledger, ulong firstSequence, CaptureCounters before, DateTimeOffset started)
    {
        using QuietRegion quiet = QuietRegion.Enter();
        int outermost;
        Questioner asked = Questioner.Here((ulong)&outermost);
        try
        {
            JudgingRules rules = JudgingRules.OfEnvironment(static complaint => StandardError.TryWriteLine("NativeLeakTracker: " + complaint));
            NativeLeakReport report = ReportBuilder.Build(
                ledger, BlockFilter.Process(ledger, firstSequence), before, started, "while recording", "exit", rules, asked);
            using Stream output = Open(ExitSettings.ReportPath);
            if (ExitSettings.IsJson)
            {
                report.WriteJson(output);
            }
            else
            {
                using var writer = new StreamWriter(output);
                report.WriteText(writer);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidOperationException)
        {
            StandardError.TryWriteLine($"NativeLeakTracker: the report on exit could not be written: {e.Message}");
        }
    }

    /// <summary>A report can tell secrets: it goes to a new file that only its owner may read, never through a link.</summary>
    private static Stream Open(string? path)
    {
        if (path is null)
        {
            return Console.OpenStandardError();
        }

        if (new FileInfo(path) is { LinkTarget: not null })
        {
            throw new IOException($"{path} is a symbolic link; name the file itself in NATIVELEAKS_REPORT.");
        }

        // Deleted are files only: to root, a device is as easily deleted as a file.
        if (File.Exists(path) && !ShimLibrary.IsRegularFile(path))
        {
            throw new IOException($"{path} is no regular file; name one in NATIVELEAKS_REPORT.");
        }

        File.Delete(path);
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }

        return new FileStream(path, options);
    }
}
