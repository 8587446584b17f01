using static NativeLeaks.Reports.Amounts;

namespace NativeLeaks.Reports;

/// <summary>
/// What a failing test prints: the largest leaks, each with the frames that a person needs, and how much more there is. The
/// whole is the text report.
/// </summary>
internal static class FailureMessage
{
    private const int MaxGroups = 3;
    private const int MaxOwnFrames = 5;
    private const int MaxNativeFrames = 6;

    public static string Of(NativeLeakReport report)
    {
        using var writer = new StringWriter(System.Globalization.CultureInfo.InvariantCulture) { NewLine = "\n" };
        Summary.Write(report, writer);
        PairingText.Write(report, writer);
        int number = 0;
        foreach (LeakGroup group in report.Leaks.Take(MaxGroups))
        {
            writer.WriteLine();
            WriteGroup(group, ++number, isOnly: report.Leaks.Count == 1, writer);
        }

        writer.WriteLine();
        if (report.Leaks.Count > MaxGroups)
        {
            IEnumerable<LeakGroup> rest = report.Leaks.Skip(MaxGroups);
            writer.WriteLine(
                $"And {Count(report.Leaks.Count - MaxGroups, "more leak")}: {Amount(rest.Sum(static g => g.Blocks), rest.Sum(static g => g.Bytes))}.");
        }

        if (report.Kept.Count > 0)
        {
            writer.WriteLine($"Kept, not counted as leaks: {Amount(report.Kept)} (Strict counts them).");
        }

        foreach (ManagedPointerBug bug in report.ManagedPointers)
        {
            writer.WriteLine(bug.Description);
        }

        foreach (IGrouping<string, ExcludedBlocks> excluded in report.Excluded.GroupBy(static e => Summary.ReasonOf(e.Reason)))
        {
            writer.WriteLine($"{excluded.Key}: {Amount(excluded.Sum(static e => e.Blocks), excluded.Sum(static e => e.Bytes))}.");
        }

        foreach (string note in report.Notes)
        {
            writer.WriteLine($"Note: {note}.");
        }

        TextReport.WriteLosses(report.Capture, writer);
        writer.WriteLine("Whole stacks: NativeLeakException.Report.ToText().");
        return writer.ToString();
    }

    private static void WriteGroup(LeakGroup group, int number, bool isOnly, TextWriter writer)
    {
        writer.WriteLine($"#{number}  {Amount(group.Blocks, group.Bytes)}   {Summary.VerdictOf(group)}");
        int folded = 0;
        LeakFrame? previous = null;
        foreach ((LeakFrame frame, bool isShown) in Select(group))
        {
            if (!isShown)
            {
                folded++;
                continue;
            }

            Fold(ref folded, writer);
            StackText.WriteBorder(previous, frame, writer);
            StackText.WriteFrame(frame, writer);
            previous = frame;
        }

        Fold(ref folded, writer);

        // The summary has that of an only leak already.
        if (group.Advice is not null && !isOnly)
        {
            writer.WriteLine($"    {group.Advice}");
        }
    }

    /// <summary>From the call that allocated outwards, as far as the owner's code and that of its callers goes.</summary>
    private static IEnumerable<(LeakFrame Frame, bool IsShown)> Select(LeakGroup group)
    {
        int owner = OwnFrames.IndexIn(group);
        bool isManaged = owner < group.Stack.Count && group.Stack[owner].Kind == LeakFrameKind.Managed;

        // The outermost frame inside the owner's is what it called.
        int call = owner - 1;
        while (call >= 0 && group.Stack[call].Kind == LeakFrameKind.Runtime)
        {
            call--;
        }

        // Outside the last managed frame there is only what started the program or the thread.
        int last = group.Stack.Count - 1;
        while (isManaged && group.Stack[last].Kind != LeakFrameKind.Managed)
        {
            last--;
        }

        int left = isManaged ? MaxOwnFrames : MaxNativeFrames;
        for (int i = 0; i < group.Stack.Count; i++)
        {
            LeakFrame frame = group.Stack[i];
            bool isShown = i < owner ? i == call : i <= last && (i == owner || !OwnFrames.IsSurrounding(frame)) && left-- > 0;
            yield return (frame, isShown);
        }
    }

    private static void Fold(ref int folded, TextWriter writer)
    {
        if (folded > 0)
        {
            writer.WriteLine($"    [{Count(folded, "frame")}]");
            folded = 0;
        }
    }
}
