using System.Globalization;

namespace VerdictPeers;

/// <summary>heaptrack: what was not freed until the process exited. Its file is read as its own printer does (format 3).</summary>
internal sealed class Heaptrack : IPeer
{
    public string Name => "heaptrack";

    public string? Version() => Processes.FirstLine("heaptrack", "--version");

    public (IReadOnlyList<ReportedBlocks> Leaks, string Output) Run(IReadOnlyList<string> command)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory();
        try
        {
            (string output, string error) = Processes.Run("heaptrack", ["-o", Path.Combine(folder.FullName, "run"), .. command], []);
            string? file = Directory.EnumerateFiles(folder.FullName).FirstOrDefault();
            return file is null
                ? throw new InvalidOperationException("heaptrack wrote no file: " + error)
                : (Read(Processes.Run("zstd", ["-dcq", file], []).Output), output);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static List<ReportedBlocks> Read(string text)
    {
        // All are numbered from 1.
        List<string> strings = [""];
        List<(string, string)> places = [("", "")];
        List<(int Place, int Parent)> traces = [(0, 0)];
        List<(long Bytes, int Trace)> allocations = [];
        List<long> outstanding = [];
        foreach (string line in text.Split('\n'))
        {
            if (line.StartsWith("s ", StringComparison.Ordinal))
            {
                strings.Add(line[(line.IndexOf(' ', 2) + 1)..]);
                continue;
            }

            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            switch (words)
            {
                case ["i", _, var module, .. var rest]:
                    places.Add((Path.GetFileName(strings[Number(module)]), rest.Length > 0 ? strings[Number(rest[0])] : ""));
                    break;
                case ["t", var place, var parent]:
                    traces.Add((Number(place), Number(parent)));
                    break;
                case ["a", var size, var trace]:
                    allocations.Add((long.Parse(size, NumberStyles.HexNumber, CultureInfo.InvariantCulture), Number(trace)));
                    outstanding.Add(0);
                    break;
                case ["+", var allocation]:
                    outstanding[Number(allocation)]++;
                    break;
                case ["-", var allocation]:
                    outstanding[Number(allocation)]--;
                    break;
            }
        }

        List<ReportedBlocks> leaks = [];
        for (int i = 0; i < allocations.Count; i++)
        {
            if (outstanding[i] > 0)
            {
                leaks.Add(new ReportedBlocks(Frames(allocations[i].Trace), outstanding[i], outstanding[i] * allocations[i].Bytes));
            }
        }

        return leaks;

        List<(string, string)> Frames(int trace)
        {
            List<(string, string)> frames = [];
            for (; trace != 0; trace = traces[trace].Parent)
            {
                frames.Add(places[traces[trace].Place]);
            }

            return frames;
        }
    }

    private static int Number(string hexadecimal) => int.Parse(hexadecimal, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
}
