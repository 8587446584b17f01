using System.Xml.Linq;

namespace NativeLeaks.Tests.Hazards;

/// <summary>Debuggers, tracers and coverage beside us: the same results as without them.</summary>
[TestFixture]
[Parallelizable(ParallelScope.Self)]
public sealed class ToolsBesideUsTests
{
    private const int Kept = 2000;

    [Test]
    public void Debugger_that_is_attached_while_the_program_allocates(
        [ValueSource(typeof(HazardRun), nameof(HazardRun.Starts))] string start)
    {
        string gdb = Machine.Tool("gdb");
        var alone = HazardRun.Report(start, "wait-and-keep", $"{Kept}");

        using var folder = new TemporaryFolder();
        string path = folder.File("report.json");
        using var program = RunningProgram.StartManaged(["wait-and-keep", path, $"{Kept}"], HazardRun.Environment(start));
        using var debugger = RunningProgram.StartUntil(
            "attached",
            gdb,
            [
                "-nx", "-batch", "-p", $"{program.Pid}",
                "-ex", "handle all nostop noprint pass", "-ex", "echo attached\\n", "-ex", "continue",
            ],
            ("DEBUGINFOD_URLS", ""));
        Assert.That(program.Finish(), Is.Zero, program.Error);
        Assert.That(debugger.WaitForExit(), Is.Zero, debugger.Error);

        AssertSame(HazardRun.ReadReport(path, start), alone);
    }

    [Test]
    public void EventPipe_session_from_the_start_of_the_program(
        [ValueSource(typeof(HazardRun), nameof(HazardRun.Starts))] string start)
    {
        using var folder = new TemporaryFolder();
        string trace = folder.File("trace.nettrace");
        var alone = HazardRun.Report(start, "wait-and-keep", $"{Kept}");

        var traced = HazardRun.ReportWith(
            [.. HazardRun.Environment(start), ("DOTNET_EnableEventPipe", "1"), ("DOTNET_EventPipeOutputPath", trace)],
            start, "wait-and-keep", $"{Kept}");

        Assert.That(new FileInfo(trace).Length, Is.Positive);
        AssertSame(traced, alone);
    }

    // It rewrites the assembly: calls to its counters stand between the lines of what is tested, here of the tests too.
    [Test]
    public void Coverlet_collects_coverage_in_a_test_project()
    {
        using var consumer = new ConsumerProject();
        var alone = consumer.Test();
        var covered = consumer.Test("--collect", "XPlat Code Coverage;IncludeTestAssembly=true");

        Assert.That(alone.Outcomes.Values, Does.Contain("Passed").And.Contain("Failed"), alone.Output);
        Assert.That(covered.Outcomes, Is.EquivalentTo(alone.Outcomes), covered.Output);
        string report = Directory.EnumerateFiles(covered.Results, "coverage.cobertura.xml", SearchOption.AllDirectories).First();
        Assert.That(
            XDocument.Load(report).Descendants("class").Select(static c => c.Attribute("name")!.Value),
            Does.Contain("Consumer.AllocationTests"));
    }

    private static void AssertSame(JsonReportFile report, JsonReportFile alone)
    {
        Assert.That(JsonReportFile.Sum(report.Leaks), Is.EqualTo((Kept, Kept * 237L)), report.DescribeLeaks());
        Assert.That(Describe(report), Is.EqualTo(Describe(alone)));
        Assert.That(report.Capture.GetRawText(), Is.EqualTo(alone.Capture.GetRawText()));
    }

    private static IEnumerable<string> Describe(JsonReportFile report) =>
        report.Leaks.Select(static leak => $"{leak.Blocks} {leak.Bytes} {leak.Owner} {string.Join('\n', leak.Stack)}").Order();
}
