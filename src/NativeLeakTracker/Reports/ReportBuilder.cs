using System.Diagnostics;
using NativeLeaks.Analysis;
using NativeLeaks.Capture;
using NativeLeaks.Ledger;
using NativeLeaks.Symbols;
using NativeLeaks.Symbols.Managed;

namespace NativeLeaks.Reports;

/// <summary>Puts findings and the circumstances of the capture together into the one model that every format is written from.</summary>
internal static class ReportBuilder
{
    // Milliseconds to the year 9999: a damaged ledger may say any number.
    private const ulong LastMoment = 253_402_300_799_000;

    /// <summary>Of this process.</summary>
    public static NativeLeakReport Build(
        LedgerReader ledger,
        BlockFilter filter,
        CaptureCounters before,
        DateTimeOffset started,
        string scope,
        string endedBy,
        JudgingRules rules,
        Questioner asked)
    {
        using var resolver = new ContextResolver(ledger, SymbolSettings.FromEnvironment(), isThisProcess: true);
        var verdicts = new Verdicts(ShimEngine.Home!, ledger, resolver, firstSequence: 0, asked);
        return Build(ledger, LeakAnalysis.Judge(ledger, filter, resolver, rules, verdicts), before, started, scope, endedBy);
    }

    /// <summary>Of this process, when it has been judged.</summary>
    public static NativeLeakReport Build(
        LedgerReader ledger, LeakFindings findings, CaptureCounters before, DateTimeOffset started, string scope, string endedBy) =>
        Build(ledger, findings, ledger.SumCounters() - before, DescribeProcess(started), scope, endedBy);

    /// <summary>
    /// Of another process, or one that left only its ledger: of all that it recorded.
    /// </summary>
    /// <param name="file">Its ledger.</param>
    /// <param name="settings">Where symbols may be looked for.</param>
    /// <param name="live">Who reads the process while it lives; null: names come from the ledger and the files alone.</param>
    /// <param name="rules">What is not to be called a leak.</param>
    public static NativeLeakReport Build(LedgerFile file, SymbolSettings settings, IManagedCode? live, JudgingRules rules)
    {
        LedgerReader ledger = file.Ledger;
        CaptureCounters sum = ledger.SumCounters();

        // Words first: what they refer to is in tables that are copied later, and tables only grow.
        ledger.Refresh();
        using var resolver = new ContextResolver(ledger, settings, isThisProcess: false, live);
        LeakFindings findings = LeakAnalysis.Judge(
            ledger, BlockFilter.Process(ledger, 0), resolver, rules, new NoVerdicts("it is another process, of which no copy can be made"));
        ref readonly LedgerHeader header = ref ledger.Header;
        DateTimeOffset started = DateTimeOffset.UnixEpoch.AddMilliseconds(Math.Min(header.StartedUnixNs / 1_000_000, LastMoment));
        bool lives = IsAlive((int)header.Pid, started);
        var process = new ReportedProcess(
            (int)header.Pid, lives ? CommandOf((int)header.Pid) : null, null, started, lives ? (long)(DateTimeOffset.UtcNow - started).TotalMilliseconds : null);
        return Build(ledger, findings, sum, process, "while recording", lives ? "running" : null);
    }

    private static NativeLeakReport Build(
        LedgerReader ledger, LeakFindings findings, CaptureCounters since, ReportedProcess process, string scope, string? endedBy)
    {
        ref readonly LedgerHeader header = ref ledger.Header;
        return new NativeLeakReport
        {
            Process = process,
            Capture = new ReportedCapture(
                header.Mode == CaptureMode.Preload ? "preload" : "late",
                header.UnwindClr == 2 ? "approximate" : "exact",
                (long)header.Losses.DroppedBlocks,
                (long)(header.Losses.TruncatedStacks + header.Losses.ContextsFull),
                since.ApproximateStacks,
                (long)header.Losses.UnseenImports,
                endedBy,
                scope)
            {
                UncopiedCodeInfo = (long)header.Losses.UncopiedCodeInfo,
                UnlistedFinalized = (long)header.Losses.UnlistedFinalized,
                UncertainReleases = (long)header.Losses.UncertainReleases,
                UnlistedReleases = (long)header.Losses.UnlistedPairings,
            },
            Totals = new ReportedTotals(
                findings.LiveBlocks, findings.LiveBytes, since.AllocatedBlocks, since.AllocatedBytes),
            Leaks = findings.Leaks,
            Kept = findings.Kept,
            ManagedPointers = findings.ManagedPointers,
            Notes = findings.Unclassified is { } reason ? [$"what holds the blocks could not be looked for: {reason}"] : [],
            Excluded = findings.Excluded,
            SymbolNotes = findings.SymbolNotes,
        };
    }

    public static ReportedProcess DescribeProcess(DateTimeOffset since)
    {
        using var process = Process.GetCurrentProcess();
        return new ReportedProcess(
            Environment.ProcessId,
            string.Join(' ', Environment.GetCommandLineArgs()),
            Environment.Version.ToString(),
            process.StartTime.ToUniversalTime(),
            (long)(DateTimeOffset.UtcNow - since).TotalMilliseconds);
    }

    /// <summary>A process of that number that began before the recording did: another one that was given the number began later.</summary>
    private static bool IsAlive(int pid, DateTimeOffset recordingStarted)
    {
        try
        {
            using var process = Process.GetProcessById(pid);
            return process.StartTime.ToUniversalTime() <= recordingStarted.AddSeconds(1);
        }
        catch (Exception e) when (e is ArgumentException or InvalidOperationException or System.ComponentModel.Win32Exception or NotSupportedException)
        {
            return false;
        }
    }

    private static string? CommandOf(int pid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/cmdline").TrimEnd('\0').Replace('\0', ' ');
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
