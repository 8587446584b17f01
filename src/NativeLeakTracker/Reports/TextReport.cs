using static NativeLeaks.Reports.Amounts;

namespace NativeLeaks.Reports;

/// <summary>The report for people: whether there is a leak, who allocated it, what was set aside and what was lost.</summary>
internal static class TextReport
{
    private const int MaxGroups = 20;

    public static void Write(NativeLeakReport report, TextWriter writer)
    {
        Summary.Write(report, writer);
        PairingText.Write(report, writer);
        int number = 0;
        foreach (LeakGroup group in report.Leaks.Take(MaxGroups))
        {
            writer.WriteLine();
            WriteGroup(group, ++number, writer);
        }

        if (report.Leaks.Count > MaxGroups)
        {
            IEnumerable<LeakGroup> rest = report.Leaks.Skip(MaxGroups);
            writer.WriteLine();
            writer.WriteLine(
                $"... and {Count(report.Leaks.Count - MaxGroups, "more stack")}: " +
                Amount(rest.Sum(static g => g.Blocks), rest.Sum(static g => g.Bytes)));
        }

        WriteKept(report.Kept, writer);
        ManagedPointerText.Write(report.ManagedPointers, writer);
        WriteFooter(report, writer);
    }

    private static void WriteKept(IReadOnlyList<LeakGroup> kept, TextWriter writer)
    {
        if (kept.Count == 0)
        {
            return;
        }

        writer.WriteLine();
        writer.WriteLine($"Kept, not counted as leaks: {Amount(kept)} (NativeLeakOptions.Strict counts them).");
        foreach (LeakGroup group in kept.Take(MaxGroups))
        {
            string owner = OwnFrames.Of(group) is { } frame ? $" in {frame}" : "";
            writer.WriteLine($"    {Amount(group.Blocks, group.Bytes)} from {Summary.ApiOf(group)}{owner}");
            foreach (string holder in group.Holders)
            {
                writer.WriteLine($"        {holder}");
            }
        }

        if (kept.Count > MaxGroups)
        {
            writer.WriteLine($"    ... and {Count(kept.Count - MaxGroups, "more stack")}");
        }
    }

    private static void WriteGroup(LeakGroup group, int number, TextWriter writer)
    {
        writer.WriteLine($"#{number}  {Amount(group.Blocks, group.Bytes)}   {Summary.VerdictOf(group)}" + Sizes(group));
        string import = group.Import is null ? "" : $" through {group.Import}";
        foreach (string holder in group.Holders)
        {
            writer.WriteLine($"    held by {holder}");
        }

        WriteAge(group, writer);
        writer.WriteLine($"    allocated by {Summary.ApiOf(group)}{import}   allocator {group.Allocator ?? "?"}   owner {group.Owner ?? "?"}");
        WriteStack(group.Stack, writer);
        if (group.Advice is not null)
        {
            writer.WriteLine($"    {group.Advice}");
        }
    }

    public static void WriteStack(IReadOnlyList<LeakFrame> stack, TextWriter writer)
    {
        // Outside the first managed frame there is only what started the program or the thread.
        int outermost = stack.Count;
        while (outermost > 0 && stack[outermost - 1].Kind != LeakFrameKind.Managed)
        {
            outermost--;
        }

        int shown = outermost == 0 ? stack.Count : outermost;
        LeakFrame? previous = null;
        int hidden = 0;
        foreach (LeakFrame frame in stack.Take(shown))
        {
            if (frame.Kind == LeakFrameKind.Runtime)
            {
                hidden++;
                continue;
            }

            FlushHidden(ref hidden, writer);
            StackText.WriteBorder(previous, frame, writer);
            StackText.WriteFrame(frame, writer);
            previous = frame;
        }

        FlushHidden(ref hidden, writer);
        if (shown < stack.Count)
        {
            writer.WriteLine($"    [{Count(stack.Count - shown, "outer frame")}: the start of the thread]");
            if (stack.Skip(shown).Any(static f => f.Cut))
            {
                StackText.WriteCut(writer);
            }
        }
    }

    private static void WriteAge(LeakGroup group, TextWriter writer)
    {
        if (group is not { CollectionsSurvived: { } most, FewestCollectionsSurvived: { } fewest, FirstAllocated: { } first, LastAllocated: { } last })
        {
            return;
        }

        string survived = most == fewest ? Count(most, "collection") : $"{Number(fewest)} to {Count(most, "collection")}";
        string period = (first - last).Duration() < TimeSpan.FromMilliseconds(1) ? $"at {Moment(first)}" : $"from {Moment(first)} to {Moment(last)}";
        writer.WriteLine($"    survived {survived}; made {period}; {(group.Blocks == 1 ? "at" : "some of them at")} {string.Join(", ", group.Addresses)}");
    }

    private static string Moment(DateTimeOffset moment) =>
        moment.ToString("HH:mm:ss.fff'Z'", System.Globalization.CultureInfo.InvariantCulture);

    private static string Sizes(LeakGroup group) =>
        group.Blocks == 1 || group.SmallestBytes == group.LargestBytes
            ? ""
            : $" ({Number(group.SmallestBytes)} to {Number(group.LargestBytes)} bytes each)";

    private static void FlushHidden(ref int hidden, TextWriter writer)
    {
        if (hidden > 0)
        {
            writer.WriteLine($"    [{Count(hidden, "frame")} of the .NET runtime]");
            hidden = 0;
        }
    }

    private static void WriteFooter(NativeLeakReport report, TextWriter writer)
    {
        writer.WriteLine();
        foreach (ExcludedBlocks excluded in report.Excluded)
        {
            string origin = excluded.Origin is null ? "" : $"; {excluded.Origin}";
            string rule = excluded.Rule is null ? "" : $" ({excluded.Rule}{origin})";
            writer.WriteLine($"{Summary.ReasonOf(excluded.Reason)}{rule}: {Amount(excluded.Blocks, excluded.Bytes)}.");
        }

        ReportedTotals totals = report.Totals;
        writer.WriteLine(
            $"Allocated {report.Capture.Scope}: " +
            (totals.AllocatedBytes is { } bytes ? Amount(totals.AllocatedBlocks, bytes) : Count(totals.AllocatedBlocks, "block")) +
            "; " +
            $"outstanding: {Amount(totals.LiveBlocks, totals.LiveBytes)}.");
        foreach (string note in report.Notes)
        {
            writer.WriteLine($"Note: {note}.");
        }

        foreach (string note in report.SymbolNotes)
        {
            writer.WriteLine($"Symbols: {note}");
        }

        WriteLosses(report.Capture, writer);
    }

    /// <summary>What could not be seen.</summary>
    public static void WriteLosses(ReportedCapture capture, TextWriter writer)
    {
        if (capture.Stacks == "approximate")
        {
            writer.WriteLine("Stacks are approximate: this runtime does not describe its tables, so frames may be missing.");
        }

        Loss(capture.Dropped, "allocation was not recorded", "allocations were not recorded", writer);
        Loss(capture.Truncated, "stack was cut", "stacks were cut", writer);
        Loss(capture.ApproximateStacks, "stack in this process is approximate", "stacks in this process are approximate", writer);
        Loss(capture.UnseenImports, "import bypasses the hooks", "imports bypass the hooks", writer);
        Loss(capture.UncertainReleases, "release looked wrong and was let pass", "releases looked wrong and were let pass", writer);
        Loss(capture.UnlistedReleases, "wrong release found no room", "wrong releases found no room", writer);
        Loss(capture.UncopiedCodeInfo, "managed method has no line numbers", "managed methods have no line numbers", writer);
        Loss(capture.UnlistedFinalized, "release by the finalizer thread was not judged", "releases by the finalizer thread were not judged", writer);
    }

    private static void Loss(long count, string singular, string plural, TextWriter writer)
    {
        if (count > 0)
        {
            writer.WriteLine($"Note: {Number(count)} {(count == 1 ? singular : plural)}.");
        }
    }
}
