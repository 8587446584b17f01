using System.Globalization;
using System.Runtime.Versioning;

namespace NativeLeaks.Tests;

/// <summary>A program that knows nothing of the tracker must not notice it: tests/fixtures/Hello, watched from outside.</summary>
[TestFixture]
[Parallelizable(ParallelScope.Self)]
[SupportedOSPlatform("linux")]
public sealed class HelloWorldTests
{
    private const string Hello = "Hello";
    private const string Greeting = "Hello, World!\n";
    private static readonly (string Name, string Value) s_reporting = ("NATIVELEAKS", "1");

    public static IEnumerable<string> Recording => ["late", "preload and report"];

    [Test]
    public void Output_and_exit_code_are_those_of_the_program_alone(
        [Values("plain", "late", "preload", "preload and report")] string start,
        [Values("", "return 0", "return 3", "return 255", "exit 7", "throw")] string ending)
    {
        var run = ChildProcess.RunManaged(Hello, Arguments(ending), Environment(start));

        Assert.That(run.Output, Is.EqualTo(Greeting));
        Assert.That(run.ExitCode, Is.EqualTo(ending switch
        {
            "" => 0,
            "throw" => 128 + 6, // SIGABRT
            _ => int.Parse(ending.Split(' ')[1], CultureInfo.InvariantCulture),
        }));
        Assert.That(run.Error.Contains("Thrown on request.", StringComparison.Ordinal), Is.EqualTo(ending == "throw"));
        if (start is "plain" or "preload" && ending != "throw")
        {
            Assert.That(run.Error, Is.Empty);
        }
    }

    [Test]
    public void Report_has_no_leak(
        [ValueSource(nameof(Recording))] string start, [Values("", "return 3", "exit 7")] string ending)
    {
        using var folder = new TemporaryFolder();
        var path = folder.File("hello.json");
        var run = ChildProcess.RunManaged(
            Hello, Arguments(ending), [.. Environment(start), ("NATIVELEAKS_REPORT", path)]);

        Assert.That(run.Error, Is.Empty);
        var report = JsonReportFile.Read(path);
        Assert.That(report.Leaks, Is.Empty, report.DescribeLeaks());
        Assert.That(report.Root.GetProperty("kept").GetArrayLength(), Is.Zero);
        Assert.That(
            report.Capture.GetProperty("mode").GetString(), Is.EqualTo(start == "late" ? "late" : "preload"));
        Assert.That(report.Capture.GetProperty("endedBy").GetString(), Is.EqualTo("exit"));

        // Recording was on: a program cannot print without allocating.
        Assert.That(report.Root.GetProperty("totals").GetProperty("allocatedBlocks").GetInt64(), Is.Positive);
    }

    [TestCaseSource(nameof(Recording))]
    public void Report_is_text_on_stderr_unless_told_otherwise(string start)
    {
        var run = ChildProcess.RunManaged(Hello, [], Environment(start));

        Assert.That(run.Error, Does.StartWith("No native leaks: nothing that was allocated while recording is outstanding.\n"));
    }

    [TestCase("0")]
    [TestCase("false")]
    [TestCase("")]
    public void Nothing_is_reported_where_NATIVELEAKS_says_no(string value)
    {
        var run = ChildProcess.RunManaged(Hello, [], ("NATIVELEAKS", value));

        Assert.That(run.Error, Is.Empty);
        Assert.That(run.Output, Is.EqualTo(Greeting));
    }

    [TestCase("json", "report", true)]
    [TestCase("JSON", "report.txt", true)]
    [TestCase("text", "report.json", false)]
    [TestCase("", "report.json", true)]
    [TestCase("", "report.txt", false)]
    public void NATIVELEAKS_FORMAT_decides_and_after_it_the_name_of_the_file(string format, string name, bool isJson)
    {
        using var folder = new TemporaryFolder();
        var path = folder.File(name);

        ChildProcess.RunManaged(Hello, [], s_reporting, ("NATIVELEAKS_REPORT", path), ("NATIVELEAKS_FORMAT", format));

        if (isJson)
        {
            Assert.That(JsonReportFile.Read(path).Leaks, Is.Empty);
        }
        else
        {
            Assert.That(File.ReadAllText(path), Does.StartWith("No native leaks:"));
        }
    }

    [Test]
    public void NATIVELEAKS_FORMAT_json_without_a_file_is_JSON_on_stderr()
    {
        var run = ChildProcess.RunManaged(Hello, [], s_reporting, ("NATIVELEAKS_FORMAT", "json"));

        Assert.That(JsonReportFile.Parse(System.Text.Encoding.UTF8.GetBytes(run.Error)).Leaks, Is.Empty);
    }

    [Test]
    public void Percent_p_in_the_name_of_the_file_is_the_process_id()
    {
        using var folder = new TemporaryFolder();

        var run = ChildProcess.RunManaged(Hello, [], s_reporting, ("NATIVELEAKS_REPORT", folder.File("%p-hello-%p.json")));

        Assert.That(folder.Files, Is.EqualTo(new[] { $"{run.Pid}-hello-{run.Pid}.json" }));
        var report = JsonReportFile.Read(folder.File($"{run.Pid}-hello-{run.Pid}.json"));
        Assert.That(report.Root.GetProperty("process").GetProperty("pid").GetInt32(), Is.EqualTo(run.Pid));
    }

    // Also where a file that others could read is there already.
    [Test]
    public void Report_file_can_be_read_by_its_owner_only([Values] bool exists)
    {
        using var folder = new TemporaryFolder();
        var path = folder.File("report.json");
        if (exists)
        {
            File.WriteAllText(path, new string('x', 1 << 20));
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
        }

        ChildProcess.RunManaged(Hello, [], s_reporting, ("NATIVELEAKS_REPORT", path));

        Assert.That(File.GetUnixFileMode(path), Is.EqualTo(UnixFileMode.UserRead | UnixFileMode.UserWrite));
        Assert.That(JsonReportFile.Read(path).Leaks, Is.Empty);
    }

    [Test]
    public void Report_file_is_refused_where_it_is_a_symbolic_link([Values] bool targetExists)
    {
        using var folder = new TemporaryFolder();
        var target = folder.File("target");
        if (targetExists)
        {
            File.WriteAllText(target, "precious");
        }

        var link = folder.File("link.json");
        File.CreateSymbolicLink(link, target);

        var run = ChildProcess.RunManaged(Hello, ["return", "3"], s_reporting, ("NATIVELEAKS_REPORT", link));

        AssertOneLineAndUnharmed(run, link);
        Assert.That(run.Error, Does.Contain("symbolic link"));
        Assert.That(new FileInfo(link).LinkTarget, Is.EqualTo(target));
        Assert.That(File.Exists(target), Is.EqualTo(targetExists));
        if (targetExists)
        {
            Assert.That(File.ReadAllText(target), Is.EqualTo("precious"));
        }
    }

    // To root a device is a file like any other: NATIVELEAKS_REPORT=/dev/null must not cost a machine its /dev/null.
    [Test]
    [CancelAfter(60_000)]
    public void Report_never_replaces_what_is_no_file()
    {
        using var folder = new TemporaryFolder();
        var pipe = folder.File("report.json");
        ChildProcess.Run("mkfifo", [pipe]);

        var run = ChildProcess.RunManaged(Hello, ["return", "3"], s_reporting, ("NATIVELEAKS_REPORT", pipe));

        Assert.That(ChildProcess.Run("test", ["-p", pipe]).ExitCode, Is.Zero, "the pipe is gone");
        AssertOneLineAndUnharmed(run, pipe);
    }

    [TestCase("no/such/folder/report.json")]
    [TestCase("file/report.json")]
    [TestCase("folder")]
    [TestCase("/proc/report.json")]
    public void Report_that_cannot_be_written_is_one_line_on_stderr(string name)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder.File("file"), "");
        Directory.CreateDirectory(folder.File("folder"));
        var path = folder.File(name);

        var run = ChildProcess.RunManaged(Hello, ["return", "3"], s_reporting, ("NATIVELEAKS_REPORT", path));

        AssertOneLineAndUnharmed(run, path);
        Assert.That(Directory.Exists(folder.File("folder")));
    }

    // The report on stderr and the excuse for it go to the same place, and neither must end the program in another way.
    [TestCase("2>/dev/full")]
    [TestCase("2>&-")]
    [TestCase("2</dev/null")]
    public void Exit_code_is_unharmed_where_stderr_cannot_be_written(string redirection)
    {
        var run = ChildProcess.Run(
            "/bin/sh",
            ["-c", $"exec \"$@\" {redirection}", "sh", ChildProcess.DotnetHost, RepositoryPaths.ChildProgram(Hello), "return", "3"],
            s_reporting);

        Assert.That(run.Output, Is.EqualTo(Greeting));
        Assert.That(run.ExitCode, Is.EqualTo(3));
    }

    private static void AssertOneLineAndUnharmed(ChildResult run, string path)
    {
        Assert.That(run.Output, Is.EqualTo(Greeting));
        Assert.That(run.ExitCode, Is.EqualTo(3));
        Assert.That(run.Error, Does.StartWith("NativeLeakTracker: ").And.EndsWith("\n").And.Contains(path));
        Assert.That(run.Error.Count(c => c == '\n'), Is.EqualTo(1), run.Error);
    }

    private static string[] Arguments(string ending) => ending.Split(' ', StringSplitOptions.RemoveEmptyEntries);

    private static (string Name, string Value)[] Environment(string start) => start switch
    {
        "plain" => [],
        "late" => [s_reporting],
        "preload" => [ChildProcess.Preload],
        _ => [ChildProcess.Preload, s_reporting],
    };
}
