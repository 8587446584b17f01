using System.Runtime.Versioning;
using System.Text.Json;
using NativeLeaks.Ledger;

namespace NativeLeaks.Tests.Hazards;

/// <summary>
/// The ledger in a file (NATIVELEAKS_LEDGER): whoever can read the file can read it, whatever became of the process, and what
/// stands in its way is never the program's problem.
/// </summary>
[TestFixture]
[Parallelizable(ParallelScope.Self)]
[SupportedOSPlatform("linux")]
public sealed class SharedLedgerTests
{
    private const int Kept = 1000;
    private const int Size = 200;

    // A size that nothing in .NET asks for.
    private const int ManagedSize = 237;
    private TemporaryFolder _folder = null!;

    private string Path => _folder.File("ledger");

    [SetUp]
    public void Create_the_folder() => _folder = new TemporaryFolder();

    [TearDown]
    public void Remove_the_folder() => _folder.Dispose();

    [Test]
    public void Ledger_can_be_read_after_SIGKILL()
    {
        using var program = RunningProgram.Start(HazardRun.Fixture("kept_blocks"), [$"{Kept}", "wait"], Shared());
        program.Kill();

        AssertHolds(Path, program.Pid, CaptureMode.Preload);
    }

    [Test]
    public void Ledger_can_be_read_while_the_process_runs_and_after_it_ended()
    {
        using var program = RunningProgram.Start(HazardRun.Fixture("kept_blocks"), [$"{Kept}", "wait"], Shared());
        AssertHolds(Path, program.Pid, CaptureMode.Preload);
        Assert.That((program.Finish(), program.Error), Is.EqualTo((7, "")));

        AssertHolds(Path, program.Pid, CaptureMode.Preload);
    }

    [Test]
    public void Ledger_of_a_dotnet_program_can_be_read_after_SIGKILL(
        [ValueSource(typeof(HazardRun), nameof(HazardRun.Starts))] string start)
    {
        using var program = RunningProgram.StartManaged(
            ["keep-and-wait", _folder.File("report.json"), $"{Kept}"],
            [.. HazardRun.Environment(start), ("NATIVELEAKS_LEDGER", Path)]);
        program.Kill();

        using var ledger = new SharedLedgerFile(Path);
        Assert.That(ledger.Header.Magic, Is.EqualTo(LedgerHeader.ExpectedMagic));
        Assert.That(ledger.Header.Pid, Is.EqualTo(program.Pid));
        Assert.That(ledger.LiveSizes().Count(static size => size == ManagedSize), Is.EqualTo(Kept));

        // Of each of the runtime's threads, the last event may be in one of the two and not yet in the other.
        Assert.That(ledger.LiveSizes(), Has.Count.EqualTo(ledger.CountedLiveBlocks).Within(20));
    }

    [Test]
    public void Only_its_owner_may_read_it_whatever_the_umask()
    {
        ChildResult run = ChildProcess.Run(
            "/bin/sh",
            [
                "-c", "umask 0; LD_PRELOAD=\"$1\" NATIVELEAKS_LEDGER=\"$2\" exec \"$3\" 1 return", "sh",
                RepositoryPaths.Shim, Path, HazardRun.Fixture("kept_blocks"),
            ]);

        Assert.That((run.ExitCode, run.Error), Is.EqualTo((7, "")));
        Assert.That(File.GetUnixFileMode(Path), Is.EqualTo(UnixFileMode.UserRead | UnixFileMode.UserWrite));
    }

    [TestCase("file")]
    [TestCase("link")]
    [TestCase("link to nothing")]
    [TestCase("no folder")]
    public void What_is_there_already_is_refused_in_one_line_and_recording_goes_on(string what)
    {
        string target = _folder.File("target"), path = Path;
        if (what != "link to nothing")
        {
            File.WriteAllText(target, "precious");
        }

        switch (what)
        {
            case "file":
                path = target;
                break;
            case "no folder":
                path = _folder.File("no/such/folder");
                break;
            default:
                File.CreateSymbolicLink(path, target);
                break;
        }

        ChildResult run = ChildProcess.Run(
            HazardRun.Fixture("kept_blocks"), [$"{Kept}", "return"],
            ChildProcess.Preload, ("NATIVELEAKS_LEDGER", path), ("NATIVELEAKS_STATS", _folder.File("stats")));

        Assert.That((run.ExitCode, run.Output), Is.EqualTo((7, "")));
        Assert.That(run.Error.Count(static c => c == '\n'), Is.EqualTo(1), run.Error);
        Assert.That(run.Error, Does.StartWith("NativeLeakTracker: ").And.Contain(path));
        Assert.That(LiveBlocks(_folder.File("stats")), Is.AtLeast(Kept));
        Assert.That(File.Exists(target), Is.EqualTo(what != "link to nothing"));
        if (File.Exists(target))
        {
            Assert.That(File.ReadAllText(target), Is.EqualTo("precious"));
        }
    }

    [Test]
    public void Forked_child_does_not_write_to_it()
    {
        using var program = RunningProgram.Start(HazardRun.Fixture("kept_blocks"), [$"{Kept}", "fork"], Shared());

        AssertHolds(Path, program.Pid, CaptureMode.Preload);
        Assert.That((program.Finish(), program.Error), Is.EqualTo((7, "")));
    }

    [Test]
    public void Exec_leaves_the_ledger_of_the_program_before_as_it_was()
    {
        ChildResult run = ChildProcess.Run(HazardRun.Fixture("kept_blocks"), [$"{Kept}", "exec"], Shared());

        Assert.That(run.ExitCode, Is.EqualTo(7));
        AssertHolds(Path, run.Pid, CaptureMode.Preload);
    }

    // Sixteen descriptors of its own stand where ours may have been: none of them may be written to, shortened or closed.
    [Test]
    public void Program_that_closes_all_descriptors()
    {
        string own = _folder.File("own");
        File.WriteAllText(own, "precious");

        ChildResult run = ChildProcess.Run(HazardRun.Fixture("kept_blocks"), [$"{Kept}", "close", own], Shared());

        Assert.That((run.ExitCode, run.Output, run.Error), Is.EqualTo((7, "", "")));
        Assert.That(File.ReadAllText(own), Is.EqualTo("precious"));
        AssertHolds(Path, run.Pid, CaptureMode.Preload);
    }

    // Where the tables do not fit into it: at the start, a little later, and when the live words grow.
    [TestCase("16m")]
    [TestCase("1m")]
    [TestCase("64k")]
    public void Full_file_system_is_no_SIGBUS(string size)
    {
        const int Many = 600_000;
        string stats = _folder.File("stats");

        ChildResult run = RunOnSmallFileSystem(size, stats, HazardRun.Fixture("kept_blocks"), $"{Many}", "return");

        Assert.That((run.ExitCode, run.Output), Is.EqualTo((7, "")), run.Error);
        using var line = JsonDocument.Parse(File.ReadAllText(stats));
        long live = line.RootElement.GetProperty("liveBlocks").GetInt64();
        long dropped = line.RootElement.GetProperty("dropped").GetInt64();
        if (run.Error.Length > 0)
        {
            Assert.That(run.Error.Count(static c => c == '\n'), Is.EqualTo(1), run.Error);
            Assert.That((live, dropped), Is.EqualTo(((long)Many, 0L)).Within(10), "recording goes on in private memory");
        }
        else
        {
            Assert.That(dropped, Is.Positive);
            Assert.That(live, Is.LessThan(Many));
        }
    }

    [TestCase("16m")]
    [TestCase("1m")]
    [TestCase("64k")]
    public void Full_file_system_does_not_show_in_a_dotnet_program(string size)
    {
        ChildResult run = RunOnSmallFileSystem(
            size, _folder.File("stats"), ChildProcess.DotnetHost, RepositoryPaths.ChildProgram("Hello"));

        Assert.That((run.ExitCode, run.Output), Is.EqualTo((0, "Hello, World!\n")), run.Error);
    }

    private static ChildResult RunOnSmallFileSystem(string size, string stats, params string[] command) => Machine.RunInOwnMounts(
        """
        mount -t tmpfs -o size="$1" none /mnt
        export LD_PRELOAD="$2" NATIVELEAKS_LEDGER=/mnt/ledger NATIVELEAKS_STATS="$3"
        shift 3
        exec "$@"
        """,
        [size, RepositoryPaths.Shim, stats, .. command]);

    private (string Name, string Value)[] Shared() => [ChildProcess.Preload, ("NATIVELEAKS_LEDGER", Path)];

    private static long LiveBlocks(string stats)
    {
        using var line = JsonDocument.Parse(File.ReadAllText(stats));
        return line.RootElement.GetProperty("liveBlocks").GetInt64();
    }

    private static void AssertHolds(string path, int pid, CaptureMode mode)
    {
        using var ledger = new SharedLedgerFile(path);
        List<long> sizes = ledger.LiveSizes();
        Assert.Multiple(() =>
        {
            Assert.That(ledger.Header.Magic, Is.EqualTo(LedgerHeader.ExpectedMagic));
            Assert.That(ledger.Header.Version, Is.EqualTo(LedgerHeader.ExpectedVersion));
            Assert.That(ledger.Header.Pid, Is.EqualTo(pid));
            Assert.That(ledger.Header.Mode, Is.EqualTo(mode));
            Assert.That(ledger.Header.Losses.DroppedBlocks, Is.Zero);
            Assert.That(sizes.Count(static size => size == Size), Is.EqualTo(Kept));
            Assert.That(sizes, Has.Count.EqualTo(ledger.CountedLiveBlocks));
            Assert.That(new FileInfo(path).Length, Is.EqualTo((long)ledger.Header.SharedBytes));
            Assert.That(System.IO.Path.GetFileName(ledger.Allocator), Does.StartWith("libc"));
        });
    }
}
