using System.Globalization;
using System.Xml.Linq;

namespace VerdictPeers;

/// <summary>Memcheck, with the kinds of leak that it shows by itself, and what hangs on them.</summary>
internal sealed class Valgrind : IPeer
{
    public string Name => "valgrind";

    public string? Version() => Processes.FirstLine("valgrind", "--version") is { } version ? $"{version} (memcheck)" : null;

    public (IReadOnlyList<ReportedBlocks> Leaks, string Output) Run(IReadOnlyList<string> command)
    {
        string log = Path.GetTempFileName();
        try
        {
            (string output, _) = Processes.Run(
                "valgrind",
                ["--leak-check=full", "--show-leak-kinds=definite,indirect,possible", "--smc-check=all-non-file", "--num-callers=40", "--xml=yes", $"--xml-file={log}", .. command],
                []);
            try
            {
                return ([.. XDocument.Load(log).Root!.Elements("error").Where(static e => Text(e, "kind").StartsWith("Leak_", StringComparison.Ordinal)).Select(Read)], output);
            }
            catch (System.Xml.XmlException e)
            {
                throw new InvalidOperationException("valgrind did not come to its end: " + e.Message);
            }
        }
        finally
        {
            File.Delete(log);
        }
    }

    private static ReportedBlocks Read(XElement error)
    {
        XElement what = error.Element("xwhat")!;
        return new ReportedBlocks(
            [.. error.Element("stack")!.Elements("frame").Select(static f => (Path.GetFileName(Text(f, "obj")), Text(f, "fn")))],
            long.Parse(Text(what, "leakedblocks"), CultureInfo.InvariantCulture),
            long.Parse(Text(what, "leakedbytes"), CultureInfo.InvariantCulture));
    }

    private static string Text(XElement parent, string name) => parent.Element(name)?.Value ?? "";
}
