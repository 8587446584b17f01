using System.Globalization;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Tests.Native;

/// <summary>What binutils' addr2line says about addresses.</summary>
internal static class Addr2line
{
    public static bool IsInstalled { get; } = File.Exists("/usr/bin/addr2line");

    /// <summary>
    /// The frames of each address. The list is asked twice and the second answers are taken: for an inlined function without a
    /// linkage name, addr2line's first answer can be the symbol that it was inlined into, and only later ones its own name
    /// (binutils 2.40, _bfd_dwarf2_find_nearest_line_with_alt).
    /// </summary>
    public static List<IReadOnlyList<SourceFrame>> Find(string library, IReadOnlyList<ulong> addresses)
    {
        using var folder = new TemporaryFolder();
        var lines = addresses.Select(address => address.ToString("x", CultureInfo.InvariantCulture)).ToList();
        File.WriteAllLines(folder.File("addresses"), [.. lines, .. lines]);
        var run = ChildProcess.Run(
            "sh", ["-c", "exec addr2line -a -f -i -e \"$1\" <\"$2\"", "sh", library, folder.File("addresses")]);
        Assert.That(run.ExitCode, Is.Zero, run.Error);
        List<IReadOnlyList<SourceFrame>> all = [];
        List<SourceFrame> frames = [];
        var output = run.Output.Split('\n');
        for (var i = 0; i < output.Length && output[i].Length > 0;)
        {
            if (output[i].StartsWith("0x", StringComparison.Ordinal))
            {
                frames = [];
                all.Add(frames);
                i++;
                continue;
            }

            if (frames.Count > 0)
            {
                frames[^1] = frames[^1] with { IsInlined = true };
            }

            var (file, line) = Place(output[i + 1]);
            frames.Add(new SourceFrame(output[i] == "??" ? null : output[i], file, line, false));
            i += 2;
        }

        Assert.That(all, Has.Count.EqualTo(2 * addresses.Count));
        return all[addresses.Count..];
    }

    private static (string? File, int Line) Place(string text)
    {
        var note = text.IndexOf(" (discriminator", StringComparison.Ordinal);
        text = note < 0 ? text : text[..note];
        var colon = text.LastIndexOf(':');
        var file = text[..colon];
        return (file == "??" ? null : file, int.TryParse(text[(colon + 1)..], CultureInfo.InvariantCulture, out var line) ? line : 0);
    }
}
