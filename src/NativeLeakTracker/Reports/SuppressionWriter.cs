using System.Text;
using NativeLeaks.Analysis;
using static NativeLeaks.Reports.Amounts;

namespace NativeLeaks.Reports;

/// <summary>Writes rules that hide a report's leaks, for a team that adopts the tracker in a code base that leaks today.</summary>
internal static class SuppressionWriter
{
    private const int MaxFramesInComment = 5;

    public static void Write(NativeLeakReport report, TextWriter writer)
    {
        writer.WriteLine("# Leaks that were known when this file was written: " + OneLine(Summary.Headline(report)));
        writer.WriteLine("# Take a rule out when its leak is repaired. docs/suppressions.md has the syntax.");
        foreach (IGrouping<string?, LeakGroup> leaks in report.Leaks.GroupBy(PatternOf))
        {
            writer.WriteLine();
            foreach (LeakGroup leak in leaks)
            {
                WriteComment(leak, writer);
            }

            writer.WriteLine(leaks.Key is { } pattern ? "leak:" + pattern : "# No rule can name this one: its stack is not known.");
        }
    }

    private static void WriteComment(LeakGroup leak, TextWriter writer)
    {
        writer.WriteLine($"# {Amount(leak.Blocks, leak.Bytes)}, {OneLine(Summary.VerdictOf(leak))}, through {OneLine(Summary.ApiOf(leak))}");
        int own = OwnFrames.IndexIn(leak);
        foreach (LeakFrame frame in leak.Stack.Skip(own).Where(static f => !OwnFrames.IsSurrounding(f)).Take(MaxFramesInComment))
        {
            writer.WriteLine($"#     {OneLine(frame.ToString())}");
        }
    }

    /// <summary>The owner's innermost method, as narrow as the syntax allows; its module if it has no name. Null: there is neither.</summary>
    private static string? PatternOf(LeakGroup leak) =>
        OwnFrames.Of(leak) is { } frame ? Exactly(frame.Method ?? frame.Module!)
        : leak.Stack.FirstOrDefault(static f => f.Method is not null) is { } named ? Exactly(named.Method!)
        : null;

    /// <summary>
    /// Anchored at both ends. The syntax has no escape, so an asterisk stands for each character that has a meaning in it, and for
    /// the end of a name that is too long.
    /// </summary>
    private static string Exactly(string name)
    {
        const int MaxText = Pattern.MaxLength - 3;
        bool isWhole = name.Length <= MaxText;
        var pattern = new StringBuilder("^", Math.Min(name.Length, MaxText) + 3);
        foreach (Rune rune in (isWhole ? name : name[..MaxText]).EnumerateRunes())
        {
            // A broken surrogate reads as the replacement character and would not be found again.
            bool isPlain = rune.Value is not ('*' or '^' or '$' or '#' or 0xfffd or 0x2028 or 0x2029) && !Rune.IsControl(rune);
            pattern.Append(isPlain ? rune.ToString() : "*");
        }

        return pattern.Append(isWhole ? "$" : "*").ToString();
    }

    private static string OneLine(string text) =>
        string.Concat(text.Select(static c => char.IsControl(c) || c is '\u2028' or '\u2029' ? ' ' : c));
}
