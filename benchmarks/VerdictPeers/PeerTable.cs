using System.Globalization;

namespace VerdictPeers;

/// <summary>Counts what one tool finds, and what it finds that is not there.</summary>
internal sealed class PeerTable(IPeer peer, string matrix)
{
    private int _seeded, _found, _clean, _alarms, _noAnswer;
    private string _reason = "";
    private IReadOnlyList<ReportedBlocks>? _empty;
    private IReadOnlyList<ReportedBlocks>? _emptyWithRuntime;

    public void Try(string name)
    {
        try
        {
            _empty ??= Look("nothing", "clean", out _, isEmpty: true);
            _seeded++;
            _clean++;
            IReadOnlyList<ReportedBlocks> clean = Look(name, "clean", out _);
            (long cleanBlocks, _) = Beyond(clean, _empty);
            _alarms += cleanBlocks > 0 ? 1 : 0;

            IReadOnlyList<ReportedBlocks> leaking = Look(name, "leaking", out Seeded seeded);
            (long blocks, long bytes) = Beyond(leaking, seeded.IsKeptWhenClean ? _empty : clean);
            bool isFound = blocks >= seeded.Blocks && bytes >= seeded.Bytes;
            _found += isFound ? 1 : 0;
            Console.Error.WriteLine(
                $"{peer.Name} {name}: {(isFound ? "found" : "missed")} ({blocks} blocks, {bytes} bytes, of {seeded.Blocks}, {seeded.Bytes}){(cleanBlocks > 0 ? $"; false alarm ({cleanBlocks} blocks)" : "")}");
        }
        catch (Exception e) when (e is InvalidOperationException or FormatException or IOException or TimeoutException)
        {
            _noAnswer++;
            _reason = e.Message;
            Console.Error.WriteLine($"{peer.Name} {name}: {e.Message}");
        }
    }

    public string Row(string version) =>
        $"| {version} | {_found} / {_seeded} | {_alarms} / {_clean} | {_emptyWithRuntime?.Sum(static r => r.Blocks) ?? 0:N0} blocks |" +
        (_noAnswer > 0 ? $" no answer {_noAnswer} times: {_reason}" : "");

    /// <summary>What is reported in one run more than in the other, place by place.</summary>
    private static (long Blocks, long Bytes) Beyond(IReadOnlyList<ReportedBlocks> run, IReadOnlyList<ReportedBlocks> other)
    {
        ILookup<string, ReportedBlocks> known = other.ToLookup(static r => r.Place);
        long blocks = 0, bytes = 0;
        foreach (IGrouping<string, ReportedBlocks> place in run.GroupBy(static r => r.Place))
        {
            blocks += Math.Max(0, place.Sum(static r => r.Blocks) - known[place.Key].Sum(static r => r.Blocks));
            bytes += Math.Max(0, place.Sum(static r => r.Bytes) - known[place.Key].Sum(static r => r.Bytes));
        }

        return (blocks, bytes);
    }

    private List<ReportedBlocks> Look(string name, string form, out Seeded seeded, bool isEmpty = false)
    {
        (IReadOnlyList<ReportedBlocks> leaks, string output) = peer.Run(["dotnet", matrix, "untracked", name, form]);
        string[] words = output.Split('\n').Last(static line => line.Length > 0 && char.IsAsciiDigit(line[0])).Split(' ');
        seeded = new Seeded(
            long.Parse(words[0], CultureInfo.InvariantCulture), long.Parse(words[1], CultureInfo.InvariantCulture), words.Length > 2);
        if (isEmpty)
        {
            _emptyWithRuntime = leaks;
        }

        return [.. leaks.Where(static r => !r.IsRuntimes)];
    }

    private sealed record Seeded(long Blocks, long Bytes, bool IsKeptWhenClean);
}
