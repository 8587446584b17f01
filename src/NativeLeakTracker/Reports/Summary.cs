using static NativeLeaks.Reports.Amounts;

namespace NativeLeaks.Reports;

/// <summary>The lines that begin every text: whether there is a leak, who allocated it, what to do.</summary>
internal static class Summary
{
    public static string Headline(NativeLeakReport report)
    {
        string pairing = PairingText.Headline(report);
        return pairing.Length == 0 ? LeakHeadline(report)
            : report.Leaks.Count == 0 ? pairing
            : $"{pairing} {LeakHeadline(report)}";
    }

    public static void Write(NativeLeakReport report, TextWriter writer)
    {
        writer.WriteLine(Headline(report));
        if (report.Leaks.Count == 0)
        {
            return;
        }

        LeakGroup group = report.Leaks[0];
        string whole = report.Leaks.Count == 1 ? "Allocated" : "The largest was allocated";
        string owner = OwnFrames.Of(group) is { } frame ? $"by {frame} in {group.Owner}" : $"in {group.Owner ?? "an unknown module"}";
        writer.WriteLine($"{whole} {owner}, through {ApiOf(group)}.");
        writer.WriteLine(group.Advice ?? "Find what releases this memory, and see why it was not called.");
    }

    private static string LeakHeadline(NativeLeakReport report)
    {
        string scope = report.Capture.Scope;
        if (report.Leaks.Count == 0)
        {
            return report.Kept.Count == 0
                ? $"No native leaks: nothing that was allocated {scope} is outstanding."
                : $"No native leaks: what was allocated {scope} and is outstanding is kept by something that lives on: {Amount(report.Kept)}.";
        }

        string notReleased = report.Leaks.All(static g => g.Verdict == "undisposed") ? "disposed" : "freed";
        return $"{Count(report.Leaks.Count, "native leak")}: {Amount(report.LeakedBlocks, report.LeakedBytes)} " +
            $"allocated {scope} were not {notReleased}.";
    }

    /// <summary>The verdict for people.</summary>
    public static string VerdictOf(LeakGroup group)
    {
        string held = group.Holders.Count > 0 ? $"held by {HolderOf(group.Holders[0])}" : "";
        return group.Verdict switch
        {
            _ when group.BlocksPerRound is { } rounds => $"grows with every round: by {string.Join(", ", rounds.Select(Number))} blocks",
            "lost" when held.Length > 0 => $"lost: {held}",
            "lost" => $"lost: nothing points to {(group.Blocks == 1 ? "it" : "them")} any more",
            "undisposed" when group.FinalizedType is { } type => $"undisposed: {type} was left to its finalizer",
            "undisposed" when group.How == "finalizer" && held.Length == 0 => "undisposed: left to a finalizer",
            "undisposed" => $"undisposed: {held}",
            "kept" => $"kept: {held}",
            _ => "not freed",
        };
    }

    /// <summary>The way without its end, which is the block itself.</summary>
    private static string HolderOf(string way) =>
        way.EndsWith(" -> block", StringComparison.Ordinal) ? way[..^" -> block".Length] : way;

    public static string ApiOf(LeakGroup group) => group.Api ?? "a direct call of malloc or its family";

    /// <summary>What was set aside, for one line.</summary>
    public static string ReasonOf(string reason) => reason switch
    {
        "runtime" => "Runtime",
        "otherScope" => "Other flows",
        "ignored" => "Ignored",
        "limit" => "Within limits",
        "filter" => "Not asked for",
        _ => "Suppressed",
    };
}
