// What other tools find of tests/fixtures/Matrix: each case in a process of its own, in both forms.
//
//   VerdictPeers <Matrix.dll> [--tools lsan,heaptrack,valgrind] [--every N]     --every N: each Nth case only
//
// benchmarks/verdict_peers.sh says how it is judged.
using System.Globalization;
using VerdictPeers;

if (args is not [var matrix, .. var options])
{
    Console.Error.WriteLine("usage: VerdictPeers <Matrix.dll> [--tools lsan,heaptrack,valgrind] [--every N]");
    return 2;
}

int every = Array.IndexOf(options, "--every") is >= 0 and var e ? int.Parse(options[e + 1], CultureInfo.InvariantCulture) : 1;
string[] wanted = Array.IndexOf(options, "--tools") is >= 0 and var t ? options[t + 1].Split(',') : ["lsan", "heaptrack", "valgrind"];
string[] cases = [.. Processes.Run("dotnet", [matrix, "list"], []).Output.Split('\n', StringSplitOptions.RemoveEmptyEntries)
    .Where((_, i) => i % every == 0)];

Console.WriteLine("| Tool | found / seeded | false alarms / clean runs | reported of an empty program |");
Console.WriteLine("|---|---|---|---|");
foreach (IPeer peer in (IPeer[])[new LeakSanitizer(), new Heaptrack(), new Valgrind()])
{
    if (!wanted.Contains(peer.Name))
    {
        continue;
    }

    if (peer.Version() is not { } version)
    {
        Console.WriteLine($"| {peer.Name} | not installed | | |");
        continue;
    }

    var table = new PeerTable(peer, matrix);
    foreach (string name in cases)
    {
        table.Try(name);
    }

    Console.WriteLine(table.Row(version));
}

return 0;
