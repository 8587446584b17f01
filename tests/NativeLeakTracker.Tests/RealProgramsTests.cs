using System.Diagnostics;
using System.Text.Json;

namespace NativeLeaks.Tests;

/// <summary>
/// Programs that everybody has run unharmed under the preloaded shim, and the shim records them. The short form of
/// tests/prove/30-real-programs.sh, which also builds this repository that way.
/// </summary>
[TestFixture]
[Parallelizable(ParallelScope.Self)]
public sealed class RealProgramsTests
{
    // Far more than any of them needs; it only turns a hang into a failure.
    private static readonly TimeSpan s_timeout = TimeSpan.FromMinutes(2);

    // Forked children write statistics too.
    private static readonly Dictionary<string, int> s_leastProcesses = new() { ["sh"] = 1000 };

    private static readonly string s_scripts = Path.Combine(RepositoryPaths.Root, "tests", "real-programs");

    private string _folder = "";

    private static IEnumerable<string> Programs =>
        Directory.EnumerateFiles(s_scripts, "*.sh").Order().Select(static file => Path.GetFileNameWithoutExtension(file));

    [SetUp]
    public void Create_the_folder() => _folder = Directory.CreateTempSubdirectory("nativeleaks-programs-").FullName;

    [TearDown]
    public void Remove_the_folder() => Directory.Delete(_folder, recursive: true);

    [TestCaseSource(nameof(Programs))]
    public void Program_says_the_same_under_the_shim_and_is_recorded(string program)
    {
        if (!IsInstalled(program))
        {
            Assert.Ignore($"{program} is not installed here.");
        }

        var statistics = Path.Combine(_folder, "statistics");
        var plain = Run(program, []);
        var preloaded = Run(program, new()
        {
            ["LD_PRELOAD"] = RepositoryPaths.Shim,
            ["NATIVELEAKS_STATS"] = statistics,
        });

        Assert.Multiple(() =>
        {
            Assert.That(preloaded.Output, Is.EqualTo(plain.Output), "standard output");
            Assert.That(preloaded.Error, Is.EqualTo(plain.Error), "standard error");
            Assert.That(preloaded.ExitCode, Is.EqualTo(plain.ExitCode), "exit code");
            Assert.That(statistics, Does.Exist);
        });
        CheckStatistics(program, File.ReadAllLines(statistics));
    }

    private static void CheckStatistics(string program, string[] lines)
    {
        var seen = new List<string>();
        foreach (var line in lines)
        {
            using var json = JsonDocument.Parse(line);
            Assert.That(json.RootElement.GetProperty("allocations").GetInt64(), Is.Positive, line);
            Assert.That(json.RootElement.GetProperty("dropped").GetInt64(), Is.Zero, line);
            seen.Add(Path.GetFileName(json.RootElement.GetProperty("command").GetString()!.Split(' ')[0]));
        }

        Assert.That(seen, Has.Some.StartsWith(program));
        Assert.That(lines, Has.Length.AtLeast(s_leastProcesses.GetValueOrDefault(program, 1)));
    }

    private static bool IsOurs(string variable) =>
        variable == "LD_PRELOAD" || variable.StartsWith("NATIVELEAKS", StringComparison.Ordinal);

    private static bool IsInstalled(string program) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':')
            .Any(folder => File.Exists(Path.Combine(folder, program)));

    /// <summary>In the same empty folder each time, because programs print paths.</summary>
    private ProgramResult Run(string program, Dictionary<string, string> environment)
    {
        var folder = Path.Combine(_folder, "run");
        if (Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }

        Directory.CreateDirectory(folder);
        var start = new ProcessStartInfo("sh", [Path.Combine(s_scripts, program + ".sh"), "1"])
        {
            WorkingDirectory = folder,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        // Whoever runs the tests may have set these.
        foreach (var name in start.Environment.Keys.Where(IsOurs).ToList())
        {
            start.Environment.Remove(name);
        }

        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        process.StandardInput.Close();
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(s_timeout))
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException($"{program} did not end within {s_timeout}.\n{output.Result}{error.Result}");
        }

        return new ProgramResult(process.ExitCode, output.Result, error.Result);
    }

    private sealed record ProgramResult(int ExitCode, string Output, string Error);
}
