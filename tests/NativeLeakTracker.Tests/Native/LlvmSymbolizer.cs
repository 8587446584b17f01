using System.Globalization;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Tests.Native;

/// <summary>What LLVM's symbolizer says about addresses: the second opinion where addr2line is known to be wrong.</summary>
internal static class LlvmSymbolizer
{
    public static bool IsInstalled { get; } = File.Exists("/usr/bin/llvm-symbolizer");

    public static List<IReadOnlyList<SourceFrame>> Find(string library, IReadOnlyList<ulong> addresses)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllLines(
            folder.File("addresses"), addresses.Select(address => "0x" + address.ToString("x", CultureInfo.InvariantCulture)));
        var run = ChildProcess.Run(
            "sh", ["-c", "exec llvm-symbolizer --no-demangle --functions=linkage --inlines --obj=\"$1\" <\"$2\"", "sh", library, folder.File("addresses")]);
        Assert.That(run.ExitCode, Is.Zero, run.Error);
        List<IReadOnlyList<SourceFrame>> all = [];
        foreach (var block in run.Output.Split("\n\n", StringSplitOptions.RemoveEmptyEntries))
        {
            var lines = block.Split('\n');
            List<SourceFrame> frames = [];
            for (var i = 0; i + 1 < lines.Length; i += 2)
            {
                var place = lines[i + 1].Split(':');
                frames.Add(new SourceFrame(
                    lines[i] == "??" ? null : lines[i],
                    place[0] == "??" ? null : place[0],
                    int.Parse(place[1], CultureInfo.InvariantCulture),
                    i + 3 < lines.Length));
            }

            all.Add(frames);
        }

        Assert.That(all, Has.Count.EqualTo(addresses.Count));
        return all;
    }
}
