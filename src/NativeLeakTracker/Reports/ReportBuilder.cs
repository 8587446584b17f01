using NativeLeaks.Analysis;
using NativeLeaks.Ledger;

namespace NativeLeaks.Reports;

/// <summary>Puts findings and the circumstances of the capture together into the one model that every format is written from.</summary>
internal static class ReportBuilder
{
    public static NativeLeakReport Build(
        LedgerReader ledger,
        BlockFilter filter,
        CaptureCounters before,
        DateTimeOffset started,
        string scope,
        string endedBy)
    {
        CaptureCounters since = ledger.SumCounters() - before;
        LeakFindings findings = LeakAnalysis.Judge(ledger, filter);
        ref readonly LedgerHeader header = ref ledger.Header;
        return new NativeLeakReport
        {
            Process = DescribeProcess(started),
            Capture = new ReportedCapture(
                header.Mode == CaptureMode.Preload ? "preload" : "late",
                header.UnwindClr == 2 ? "approximate" : "exact",
                (long)header.Losses.DroppedBlocks,
                (long)(header.Losses.TruncatedStacks + header.Losses.ContextsFull),
                since.ApproximateStacks,
                (long)header.Losses.UnseenImports,
                endedBy,
                scope),
            Totals = new ReportedTotals(
                findings.LiveBlocks, findings.LiveBytes, since.AllocatedBlocks, since.AllocatedBytes),
            Leaks = findings.Leaks,
            Kept = [],
            Excluded = findings.Excluded,
            SymbolNotes = findings.SymbolNotes,
        };
    }

    public static ReportedProcess DescribeProcess(DateTimeOffset since)
    {
        using var process = System.Diagnostics.Process.GetCurrentProcess();
        return new ReportedProcess(
            Environment.ProcessId,
            string.Join(' ', Environment.GetCommandLineArgs()),
            Environment.Version.ToString(),
            process.StartTime.ToUniversalTime(),
            (long)(DateTimeOffset.UtcNow - since).TotalMilliseconds);
    }
}
