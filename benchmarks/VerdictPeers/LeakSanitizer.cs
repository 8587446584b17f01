using System.Globalization;
using System.Text.RegularExpressions;

namespace VerdictPeers;

/// <summary>GCC's liblsan, preloaded: it looks when the process exits.</summary>
internal sealed partial class LeakSanitizer : IPeer
{
    private const string Library = "/usr/lib/x86_64-linux-gnu/liblsan.so.0";

    public string Name => "lsan";

    public string? Version() => File.Exists(Library) ? $"LeakSanitizer ({Processes.FirstLine("gcc", "--version")}), preloaded" : null;

    public (IReadOnlyList<ReportedBlocks> Leaks, string Output) Run(IReadOnlyList<string> command)
    {
        // By frame pointers alone it would not get past the first native frame.
        (string output, string error) = Processes.Run(
            command[0], command.Skip(1), [("LD_PRELOAD", Library), ("LSAN_OPTIONS", "fast_unwind_on_malloc=0:allocator_may_return_null=1")]);
        if (error.Contains("LeakSanitizer has encountered a fatal error", StringComparison.Ordinal))
        {
            throw new InvalidOperationException("LeakSanitizer could not look.");
        }

        List<ReportedBlocks> leaks = [];
        List<(string, string)> frames = [];
        foreach (string line in error.Split('\n'))
        {
            if (Head().Match(line) is { Success: true } head)
            {
                frames = [];
                leaks.Add(new ReportedBlocks(frames, Number(head.Groups[2]), Number(head.Groups[1])));
            }
            else if (Frame().Match(line) is { Success: true } frame)
            {
                frames.Add((Path.GetFileName(frame.Groups[2].Success ? frame.Groups[2].Value : Library), frame.Groups[1].Value));
            }
        }

        return (leaks, output);
    }

    private static long Number(Group group) => long.Parse(group.Value, CultureInfo.InvariantCulture);

    [GeneratedRegex(@"leak of (\d+) byte\(s\) in (\d+) object\(s\)")]
    private static partial Regex Head();

    // With a source line instead of a module: those are the tool's own. Code of the JIT is "(/memfd:doublemapper (deleted)+0x...)".
    [GeneratedRegex(@"^\s+#\d+ 0x[0-9a-f]+\s+(?:in (.*?))?\s*(?:\((.+?)(?:\+0x[0-9a-f]+)?\)|(\S+))$")]
    private static partial Regex Frame();
}
