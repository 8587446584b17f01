using System.Globalization;
using System.Runtime.Versioning;
using System.Text;
using System.Text.Json;

namespace NativeLeaks.Tests;

/// <summary>
/// The shim preloaded into programs that are no .NET programs: it changes nothing that they do, and where
/// NATIVELEAKS_STATS asks for it, each process leaves a line of counters.
/// </summary>
[TestFixture]
[SupportedOSPlatform("linux")]
public sealed class BareStatsTests
{
    private static readonly string[] s_contract =
        ["allocations", "frees", "liveBlocks", "liveBytes", "contexts", "dropped"];

    private static readonly string[] s_inOrderOfTheirEnds = ["/bin/ls", "/bin/sh", "/bin/true", "/bin/sh"];

    private static readonly string s_knownAllocations = Path.Combine(RepositoryPaths.NativeFixtures, "known_allocations");

    [TestCase("/bin/ls", "-la", "/usr")]
    [TestCase("/bin/ls", "/no/such/folder")]
    [TestCase("/bin/sh", "-c", "ls / | sort -r | head -n 3; (exit 3)")]
    [TestCase("/bin/sh", "-c", "echo one | cat | wc -l; kill -TERM $$")]
    [TestCase("/bin/false")]
    public void Output_and_exit_code_are_those_of_the_program_alone(string program, params string[] arguments)
    {
        using var folder = new TemporaryFolder();

        var plain = ChildProcess.Run(program, arguments);
        var preloaded = ChildProcess.Run(program, arguments, ChildProcess.Preload);
        var counted = ChildProcess.Run(
            program, arguments, ChildProcess.Preload, ("NATIVELEAKS_STATS", folder.File("stats")));

        Assert.That(preloaded with { Pid = 0 }, Is.EqualTo(plain with { Pid = 0 }));
        Assert.That(counted with { Pid = 0 }, Is.EqualTo(plain with { Pid = 0 }));
    }

    [Test]
    public void Without_NATIVELEAKS_STATS_nothing_is_written()
    {
        using var folder = new TemporaryFolder();

        ChildProcess.Run("/bin/sh", ["-c", "cd \"$1\" && /bin/ls && /bin/true", "sh", folder.File("")], ChildProcess.Preload);

        Assert.That(folder.Files, Is.Empty);
    }

    [Test]
    public void Each_process_leaves_one_line()
    {
        var (_, lines) = Count("/bin/sh", "-c", "/bin/ls /; (: in a shell of its own); /bin/true; :");

        Assert.That(lines, Has.Count.EqualTo(4));
        Assert.That(lines.Select(line => line.GetProperty("pid").GetInt32()), Is.Unique);
        Assert.That(
            lines.Select(line => line.GetProperty("command").GetString()!.Split(' ')[0]), Is.EqualTo(s_inOrderOfTheirEnds));
    }

    [Test]
    public void Lines_of_processes_that_end_at_once_do_not_mix()
    {
        var (_, lines) = Count(
            "/bin/sh", "-c", "i=0; while [ $i -lt 50 ]; do /bin/true & i=$((i+1)); done; wait");

        Assert.That(lines, Has.Count.EqualTo(51));
        Assert.That(lines.Select(line => line.GetProperty("pid").GetInt32()), Is.Unique);
    }

    [Test]
    public void Line_has_the_counters_of_the_contract_and_they_agree()
    {
        var (run, lines) = Count("/bin/ls", "-la", "/");

        var line = lines.Single();
        foreach (var name in s_contract)
        {
            Assert.That(line.TryGetProperty(name, out var value) && value.TryGetInt64(out _), Is.True, name);
        }

        Assert.That(Number(line, "allocations"), Is.Positive);
        Assert.That(Number(line, "allocations") - Number(line, "frees"), Is.EqualTo(Number(line, "liveBlocks")));
        Assert.That(Number(line, "contexts"), Is.Positive);
        Assert.That(Number(line, "dropped"), Is.Zero);
        Assert.That(line.GetProperty("pid").GetInt32(), Is.EqualTo(run.Pid));
        Assert.That(line.GetProperty("command").GetString(), Is.EqualTo("/bin/ls -la /"));
    }

    // Threads make their blocks one after the other, or in the main thread (0).
    [Test]
    public void Counts_are_exact([Values(0, 1, 4)] int threads, [Values("return", "_exit")] string ending)
    {
        const int Rounds = 1000;

        var counted = CountKnown(Rounds, 0, threads, ending) - CountKnown(0, 0, threads, ending);

        var all = Rounds * Math.Max(1, threads);
        Assert.That(counted, Is.EqualTo(new Counters(
            Allocations: 4 * all,
            Frees: 2 * all,
            LiveBlocks: 2 * all,
            LiveBytes: (100 + 64) * all,
            AllocatedBytes: (100 + 63 + 40 + 64) * all)));
    }

    [TestCase(1)]
    [TestCase(2)]
    [TestCase(3000)]
    public void Block_that_was_resized_is_one_live_block_of_its_last_size(int reallocations)
    {
        var counted = CountKnown(0, reallocations, 0, "return") - CountKnown(0, 0, 0, "return");

        Assert.That((counted.LiveBlocks, counted.LiveBytes), Is.EqualTo((1, 1000)));
        Assert.That(counted.Allocations - counted.Frees, Is.EqualTo(1));
    }

    [Test]
    public void File_can_be_read_by_its_owner_only_whatever_the_umask()
    {
        using var folder = new TemporaryFolder();
        var path = folder.File("stats");

        ChildProcess.Run(
            "/bin/sh", ["-c", "umask 0; /bin/true; :"], ChildProcess.Preload, ("NATIVELEAKS_STATS", path));

        Assert.That(File.GetUnixFileMode(path), Is.EqualTo(UnixFileMode.UserRead | UnixFileMode.UserWrite));
    }

    [Test]
    public void Nothing_is_written_through_a_symbolic_link([Values] bool targetExists)
    {
        using var folder = new TemporaryFolder();
        var target = folder.File("target");
        if (targetExists)
        {
            File.WriteAllText(target, "precious\n");
        }

        File.CreateSymbolicLink(folder.File("link"), target);

        var run = ChildProcess.Run(
            s_knownAllocations, ["1", "0", "0", "return"], ChildProcess.Preload, ("NATIVELEAKS_STATS", folder.File("link")));

        Assert.That(run.ExitCode, Is.EqualTo(7));
        Assert.That(File.Exists(target), Is.EqualTo(targetExists));
        if (targetExists)
        {
            Assert.That(File.ReadAllText(target), Is.EqualTo("precious\n"));
        }
    }

    [TestCase("no/such/folder/stats")]
    [TestCase("folder")]
    [TestCase("pipe")]
    [TestCase("/dev/full")]
    public void File_that_cannot_be_written_changes_nothing(string name)
    {
        using var folder = new TemporaryFolder();
        Directory.CreateDirectory(folder.File("folder"));
        ChildProcess.Run("mkfifo", [folder.File("pipe")]);

        var run = ChildProcess.Run(
            s_knownAllocations, ["1", "0", "0", "return"], ChildProcess.Preload, ("NATIVELEAKS_STATS", folder.File(name)));

        Assert.That(run.ExitCode, Is.EqualTo(7));
        Assert.That(run.Error, Is.Empty);
        Assert.That(run.Output, Is.EqualTo(run.Pid.ToString(CultureInfo.InvariantCulture) + "\n"));
    }

    // Arguments are bytes: of any language's alphabet, of none, too many of them, with quotes and line ends in them.
    [TestCase("\\303\\251", "\u00e9", TestName = "Command_line_in_UTF_8_is_kept")]
    [TestCase("\\042\\134\\011\\001", "\"\\\t\u0001", TestName = "Command_line_with_quotes_and_control_characters_is_kept")]
    [TestCase("\\303", null, TestName = "Command_line_that_is_not_UTF_8_is_still_valid_JSON")]
    [TestCase("\\377\\376\\200", null, TestName = "Command_line_of_bytes_that_UTF_8_never_has_is_still_valid_JSON")]
    [TestCase("\\355\\240\\200", null, TestName = "Command_line_with_a_surrogate_is_still_valid_JSON")]
    public void Command_line(string escapedArgument, string? kept)
    {
        var (_, lines) = Count("/bin/sh", "-c", $"exec /bin/echo \"$(printf '{escapedArgument}')\"");

        var command = lines.Last().GetProperty("command").GetString();
        Assert.That(command, kept is null ? Does.StartWith("/bin/echo ") : Is.EqualTo("/bin/echo " + kept));
    }

    // A character that takes two bytes must not be cut between them, wherever the line ends.
    [Test]
    public void Command_line_that_is_cut_is_still_valid_JSON(
        [Values("", "x")] string odd, [Values("\u00e9", "\u20ac", "\U0001f600")] string character)
    {
        var (_, lines) = Count("/bin/echo", odd + Repeat(character, 3000));

        Assert.That(
            lines.Single().GetProperty("command").GetString(), Does.StartWith("/bin/echo " + odd + Repeat(character, 10)));

        static string Repeat(string text, int times) => string.Concat(Enumerable.Repeat(text, times));
    }

    // Each of these takes six bytes in the line, so that the line is at its longest.
    [Test]
    public void Longest_possible_line_is_whole()
    {
        var (_, lines) = Count("/bin/echo", new string('\u0001', 4000));

        Assert.That(lines.Single().GetProperty("command").GetString(), Does.StartWith("/bin/echo \u0001"));
    }

    private static Counters CountKnown(int rounds, int reallocations, int threads, string ending)
    {
        var (run, lines) = Count(s_knownAllocations, $"{rounds}", $"{reallocations}", $"{threads}", ending);

        Assert.That(run.ExitCode, Is.EqualTo(7));
        var line = lines.Single();
        Assert.That(Number(line, "dropped"), Is.Zero);
        return new Counters(
            Number(line, "allocations"),
            Number(line, "frees"),
            Number(line, "liveBlocks"),
            Number(line, "liveBytes"),
            Number(line, "allocatedBytes"));
    }

    private static (ChildResult Run, List<JsonElement> Lines) Count(string program, params string[] arguments)
    {
        using var folder = new TemporaryFolder();
        var path = folder.File("stats");
        var run = ChildProcess.Run(program, arguments, ChildProcess.Preload, ("NATIVELEAKS_STATS", path));

        // Strict, so that a line that is no UTF-8 is noticed.
        var text = new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(File.ReadAllBytes(path));
        Assert.That(text, Does.EndWith("\n"));
        return (run, [.. text[..^1].Split('\n').Select(Parse)]);
    }

    private static JsonElement Parse(string line)
    {
        using var document = JsonDocument.Parse(line);
        return document.RootElement.Clone();
    }

    private static long Number(JsonElement line, string name) => line.GetProperty(name).GetInt64();

    private sealed record Counters(long Allocations, long Frees, long LiveBlocks, long LiveBytes, long AllocatedBytes)
    {
        public static Counters operator -(Counters a, Counters b) => new(
            a.Allocations - b.Allocations,
            a.Frees - b.Frees,
            a.LiveBlocks - b.LiveBlocks,
            a.LiveBytes - b.LiveBytes,
            a.AllocatedBytes - b.AllocatedBytes);
    }
}
