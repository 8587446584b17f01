using System.Text.Json;

namespace NativeLeaks.Tests.Hazards;

/// <summary>Runs tests/fixtures/Hazards, and programs of which the counters are wanted.</summary>
internal static class HazardRun
{
    public static readonly string[] Starts = ["late", "preload"];

    public static (string Name, string Value)[] Environment(string start) => start == "preload" ? [ChildProcess.Preload] : [];

    /// <summary>Does WHAT of the fixture under a tracker, reads the report of its scope. The fixture found nothing wrong.</summary>
    public static JsonReportFile Report(string start, string what, params string[] arguments) =>
        ReportWith(Environment(start), start, what, arguments);

    public static JsonReportFile ReportWith(
        (string Name, string Value)[] environment, string start, string what, params string[] arguments)
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("report.json");
        ChildResult run = ChildProcess.RunManaged("Hazards", [what, path, .. arguments], environment);
        Assert.That((run.ExitCode, run.Error), Is.EqualTo((0, "")));
        return ReadReport(path, start);
    }

    public static JsonReportFile ReadReport(string path, string start)
    {
        JsonReportFile report = JsonReportFile.Read(path);
        Assert.That(report.Capture.GetProperty("mode").GetString(), Is.EqualTo(start));
        Assert.That(report.Capture.GetProperty("stacks").GetString(), Is.EqualTo("exact"));
        foreach (string loss in (string[])["dropped", "truncated", "approximateStacks"])
        {
            Assert.That(report.Capture.GetProperty(loss).GetInt64(), Is.Zero, loss);
        }

        return report;
    }

    /// <summary>The counters of a native program under the preloaded shim, which ends with 7 and without an error.</summary>
    public static JsonElement Count(string preload, string program, params string[] arguments)
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("stats");
        ChildResult run = ChildProcess.Run(
            Fixture(program), arguments, ("LD_PRELOAD", preload), ("NATIVELEAKS_STATS", path));
        Assert.That((run.ExitCode, run.Error), Is.EqualTo((7, "")));
        using var line = JsonDocument.Parse(File.ReadAllText(path));
        return line.RootElement.Clone();
    }

    /// <summary>By how much a counter is larger after so many rounds than after none.</summary>
    public static Func<string, long> CountRounds(string preload, string program, int rounds)
    {
        JsonElement none = Count(preload, program, "0"), all = Count(preload, program, $"{rounds}");
        return name => all.GetProperty(name).GetInt64() - none.GetProperty(name).GetInt64();
    }

    public static string Fixture(string program) => Path.Combine(RepositoryPaths.NativeFixtures, program);

    public static IEnumerable<JsonElement> Frames(JsonElement leak) => leak.GetProperty("stack").EnumerateArray();

    public static bool IsCut(JsonElement leak) => Frames(leak).Any(static frame => frame.TryGetProperty("cut", out _));
}
