using System.Diagnostics;
using System.Runtime.InteropServices;

namespace NativeLeaks.Tests;

/// <summary>What the runtime, debuggers and dump writers do to a tracked program, and it to them.</summary>
[TestFixture]
[Parallelizable(ParallelScope.Self)]
public sealed class SystemHazardTests
{
    private const string Fixture = "SystemHazards";

    private static readonly string s_createDump = Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "createdump");

    [Test]
    public void Processes_started_while_other_threads_allocate([Values("late", "preload")] string start) =>
        AssertKeepsExactly("starts-processes", start);

    [Test]
    public void Collections_while_threads_allocate([Values("late", "preload")] string start) =>
        AssertKeepsExactly("collects", start);

    [Test]
    public void Event_pipe_session_beside_us([Values("late", "preload")] string start)
    {
        using var folder = new TemporaryFolder();

        AssertKeepsExactly(
            "collects",
            start,
            ("DOTNET_EnableEventPipe", "1"),
            ("DOTNET_EventPipeOutputPath", folder.File("trace.nettrace")),
            ("DOTNET_EventPipeConfig", "Microsoft-Windows-DotNETRuntime:0x1:4"));

        Assert.That(new FileInfo(folder.File("trace.nettrace")), Has.Length.GreaterThan(0));
    }

    [Test]
    public void Debugger_attached_for_a_moment()
    {
        if (!File.Exists("/usr/bin/gdb"))
        {
            Assert.Ignore("gdb is not installed");
        }

        using var folder = new TemporaryFolder();
        var exitCode = RunWaiting(folder, preload: true, pid =>
        {
            var gdb = ChildProcess.Run("/usr/bin/gdb", ["--batch", "-p", pid, "-ex", "info threads", "-ex", "detach"]);
            Assert.That(gdb.ExitCode, Is.Zero, gdb.Error);
        });

        Assert.That(exitCode, Is.Zero);
        AssertKept(JsonReportFile.Read(folder.File("report.json")));
    }

    // Dumps hold what is readable. The tables are so where they were used, and live words and threads' caches as whole pieces.
    [Test]
    public void Dump_of_a_tracked_process_stays_near_that_of_an_untracked_one()
    {
        using var folder = new TemporaryFolder();
        Assert.That(RunWaiting(folder, preload: false, pid => Dump(pid, folder.File("plain.dmp"))), Is.Zero);
        Assert.That(RunWaiting(folder, preload: true, pid => Dump(pid, folder.File("tracked.dmp"))), Is.Zero);

        var growth = new FileInfo(folder.File("tracked.dmp")).Length - new FileInfo(folder.File("plain.dmp")).Length;
        Assert.That(growth, Is.LessThan(300L << 20));
    }

    private static void Dump(string pid, string file)
    {
        var dump = ChildProcess.Run(s_createDump, ["--full", "--name", file, pid]);
        Assert.That(dump.ExitCode, Is.Zero, dump.Output + dump.Error);
    }

    private static void AssertKeepsExactly(string what, string start, params (string Name, string Value)[] environment)
    {
        using var folder = new TemporaryFolder();
        var child = ChildProcess.RunManaged(
            Fixture, [what], [.. environment, .. Tracking(folder, preload: start == "preload")]);

        Assert.That(child.ExitCode, Is.Zero, child.Error);
        AssertKept(JsonReportFile.Read(folder.File("report.json")));
    }

    private static void AssertKept(JsonReportFile report)
    {
        var own = report.Leaks.Where(leak => leak.Stack.Any(frame => frame.StartsWith("SystemHazards.Program.Main", StringComparison.Ordinal))
                                             && leak.Bytes == leak.Blocks * 1234);
        Assert.That(JsonReportFile.Sum(own), Is.EqualTo((100L, 123_400L)), report.DescribeLeaks());
        Assert.That(report.Leaks.Where(leak => leak.Stack.Any(frame => frame.Contains("Churn", StringComparison.Ordinal))), Is.Empty);
        Assert.That(report.Capture.GetProperty("dropped").GetInt64(), Is.Zero);
    }

    private static (string Name, string Value)[] Tracking(TemporaryFolder folder, bool preload) =>
    [
        ("NATIVELEAKS", "1"),
        ("NATIVELEAKS_REPORT", folder.File("report.json")),
        .. preload ? [ChildProcess.Preload] : Array.Empty<(string, string)>(),
    ];

    private static int RunWaiting(TemporaryFolder folder, bool preload, Action<string> meanwhile)
    {
        var start = new ProcessStartInfo(ChildProcess.DotnetHost, [RepositoryPaths.ChildProgram(Fixture), "waits"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        };
        foreach (var (name, value) in preload ? Tracking(folder, preload: true) : [])
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        try
        {
            meanwhile(process.StandardOutput.ReadLine()!);
            process.StandardInput.WriteLine();
            Assert.That(process.WaitForExit(TimeSpan.FromMinutes(1)), Is.True, "it hangs");
            return process.ExitCode;
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill();
            }
        }
    }
}
