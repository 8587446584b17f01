using System.Globalization;

namespace NativeLeaks.Reports;

/// <summary>Wrong releases, for people: what happened, then each stack under a heading.</summary>
internal static class PairingText
{
    private const int MaxBugs = 20;

    /// <summary>What the report's first line says of them; empty where there are none.</summary>
    public static string Headline(NativeLeakReport report)
    {
        long count = report.PairingBugs.Sum(static b => b.Count);
        if (count == 0)
        {
            return "";
        }

        string more = report.PairingBugs.Count > 1 ? ", and others" : "";
        return $"{Number(count)} pairing {(count == 1 ? "bug" : "bugs")}: {report.PairingBugs[0].Description}{more}.";
    }

    public static void Write(NativeLeakReport report, TextWriter writer)
    {
        foreach (PairingBug bug in report.PairingBugs.Take(MaxBugs))
        {
            writer.WriteLine();
            string times = bug.Count == 1 ? "" : $"   {Number(bug.Count)} times";
            writer.WriteLine($"{bug.Kind}: {bug.Description} ({bug.Address}){times}");
            WriteStack(bug.FirstReleaseStack.Count > 0 ? "released again at" : "released at", bug.Stack, writer);
            WriteStack("released first at", bug.FirstReleaseStack, writer);
            WriteStack("allocated at", bug.AllocationStack, writer);
        }

        if (report.PairingBugs.Count > MaxBugs)
        {
            writer.WriteLine();
            writer.WriteLine($"... and {Number(report.PairingBugs.Count - MaxBugs)} more pairing bugs with other stacks");
        }
    }

    private static void WriteStack(string heading, IReadOnlyList<LeakFrame> stack, TextWriter writer)
    {
        if (stack.Count > 0)
        {
            writer.WriteLine($"  {heading}");
            TextReport.WriteStack(stack, writer);
        }
    }

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
