namespace NativeLeaks.Tests;

/// <summary>
/// <c>[DllImport("libc")] malloc</c> and <c>free</c>: the runtime asks libc itself for them, past everything that was
/// loaded in front of it. tests/consumer has the same for a test; here are whole programs.
/// </summary>
[TestFixture]
[Parallelizable(ParallelScope.Self)]
public sealed class LibcImportTests
{
    // Its module initializer puts the hooks in place before the first import is bound.
    private const string HookedEarly = "LibcImports";

    // Here the first Start() does.
    private const string HookedLate = "LibcImportsHookedLate";

    public static IEnumerable<TestCaseData> SeenImports =>
    [
        new(HookedEarly, "after", "late"),
        new(HookedEarly, "before", "late"),
        new(HookedEarly, "after", "preload"),
        new(HookedEarly, "before", "preload"),
        new(HookedLate, "after", "late"),
        new(HookedLate, "after", "preload"),
        new(HookedLate, "before", "preload"),
    ];

    [TestCaseSource(nameof(SeenImports))]
    public void Blocks_of_libc_malloc_that_are_kept_are_300_leaks(string program, string bound, string start)
    {
        var report = Run(program, "kept", bound, start);

        AssertLeaks300Blocks(report);
    }

    [TestCaseSource(nameof(SeenImports))]
    public void Blocks_of_a_native_library_that_libc_free_frees_are_no_leaks(string program, string bound, string start)
    {
        var report = Run(program, "freed", bound, start);

        Assert.That(report.Leaks, Is.Empty, report.DescribeLeaks());
        Assert.That(report.Root.GetProperty("totals").GetProperty("allocatedBlocks").GetInt64(), Is.AtLeast(1000));
    }

    // Nothing but a closer look at the runtime's own caches can reach these. What cannot be reached must be counted.
    [TestCase("kept")]
    [TestCase("freed")]
    public void Imports_bound_before_the_hooks_are_seen_or_counted_as_unseen(string what)
    {
        var report = Run(HookedLate, what, "before", "late");

        if (report.Capture.GetProperty("unseenImports").GetInt64() > 0)
        {
            return;
        }

        if (what == "kept")
        {
            AssertLeaks300Blocks(report);
        }
        else
        {
            Assert.That(report.Leaks, Is.Empty, report.DescribeLeaks());
        }
    }

    [TestCase("late")]
    [TestCase("preload")]
    public void Report_on_exit_sees_them_too(string start)
    {
        using var folder = new TemporaryFolder();
        var path = folder.File("exit.json");

        RunProgram(HookedEarly, "kept", "after", "exit", start, ("NATIVELEAKS", "1"), ("NATIVELEAKS_REPORT", path));

        AssertLeaks300Blocks(JsonReportFile.Read(path));
    }

    private static void AssertLeaks300Blocks(JsonReportFile report)
    {
        Assert.That(JsonReportFile.Sum(report.Leaks), Is.EqualTo((300, 300 * 64)), report.DescribeLeaks());
        Assert.That(report.Leaks.Select(leak => leak.Stack), Is.All.Contains("LibcImports.Program.KeepBlocks()"));
        Assert.That(report.Leaks.Select(leak => leak.Stack), Is.All.Contains("LibcImports.Program.Main(String[])"));
        Assert.That(report.Capture.GetProperty("unseenImports").GetInt64(), Is.Zero);
    }

    private static JsonReportFile Run(string program, string what, string bound, string start)
    {
        using var folder = new TemporaryFolder();
        var path = folder.File("report.json");
        RunProgram(program, what, bound, path, start);
        var report = JsonReportFile.Read(path);
        Assert.That(report.Capture.GetProperty("mode").GetString(), Is.EqualTo(start));
        return report;
    }

    private static void RunProgram(
        string program, string what, string bound, string report, string start,
        params (string Name, string Value)[] environment)
    {
        var library = Path.Combine(RepositoryPaths.NativeFixtures, "libblocks.so");
        var run = ChildProcess.RunManaged(
            program,
            [what, bound, library, report],
            start == "preload" ? [.. environment, ChildProcess.Preload] : environment);
        Assert.That(run.ExitCode, Is.Zero, run.Error);
        Assert.That(run.Error, Is.Empty);
    }
}
