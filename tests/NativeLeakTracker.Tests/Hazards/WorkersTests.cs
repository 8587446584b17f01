namespace NativeLeaks.Tests.Hazards;

/// <summary>Threads that allocate without a pause while the runtime stops them.</summary>
[TestFixture]
public sealed class WorkersTests
{
    [Test]
    public void Garbage_collections_suspend_four_threads_500_times_while_they_allocate(
        [ValueSource(typeof(HazardRun), nameof(HazardRun.Starts))] string start)
    {
        const int Rounds = 200_000;

        using var folder = new TemporaryFolder();
        var report = HazardRun.ReportWith(
            [.. HazardRun.Environment(start), ("NATIVELEAKS_STATS", folder.File("stats"))],
            start, "suspensions", $"{Rounds}", "500");

        const int KeptOfEach = Rounds / 10;
        Assert.That(
            JsonReportFile.Sum(OfWorkers(report)), Is.EqualTo((4 * KeptOfEach, KeptOfEach * 4_006L)), report.DescribeLeaks());
        Assert.That(report.Root.GetProperty("leaks").EnumerateArray().Where(HazardRun.IsCut), Is.Empty);
        Assert.That(
            report.Leaks.Select(static leak => leak.Stack), Is.All.Contains("System.Threading.Thread.StartHelper.Callback(Object)"));

        using var stats = System.Text.Json.JsonDocument.Parse(File.ReadAllText(folder.File("stats")));
        foreach (string loss in (string[])["dropped", "truncated", "approximateStacks", "brokenStacks", "missedFrees"])
        {
            Assert.That(stats.RootElement.GetProperty(loss).GetInt64(), Is.Zero, loss);
        }
    }

    /// <summary>The leaks that the fixture's threads made.</summary>
    internal static IEnumerable<JsonLeak> OfWorkers(JsonReportFile report) =>
        report.Leaks.Where(static leak => leak.Stack.Contains("Hazards.Workers.Work(Int32)"));
}
