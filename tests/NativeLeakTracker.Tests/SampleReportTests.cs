using System.Globalization;
using System.Text.RegularExpressions;

namespace NativeLeaks.Tests;

/// <summary>
/// The sample counts for itself what it leaves unfreed and prints it. Whatever it was told to do, the report of the
/// tracker must say the same, to the block and the byte.
/// </summary>
[TestFixture]
[Parallelizable(ParallelScope.Self)]
public sealed partial class SampleReportTests
{
    private const string Sample = "SqliteInterop";
    private const string SampleAssembly = "SqliteInterop.dll";
    private const string SqliteLibrary = "libe_sqlite3.so";

    private static readonly string[] s_wayOfTheLeak =
    [
        "SqliteInterop.LeakingBlobWriter.Bind(Statement, Int32, Byte[])",
        "SqliteInterop.PictureStore.Insert(Int32, Byte[])",
        "SqliteInterop.Program.StorePictures(Options)",
        "SqliteInterop.Program.Main(String[])",
    ];

    [Test]
    public void Report_says_what_the_sample_says(
        [Values("leak", "free", "transient", "pinned")] string bind,
        [Values("finalize", "forget")] string statement,
        [Values("late", "preload")] string start)
    {
        var (sample, report) = RunSample(start, "--bind", bind, "--statement", statement);

        Assert.That(report.Capture.GetProperty("mode").GetString(), Is.EqualTo(start));
        Assert.That(Own(report), Is.EqualTo(sample.All), report.DescribeLeaks());
        Assert.That(
            JsonReportFile.Sum(report.Leaks), Is.EqualTo(sample.All), $"not the sample's: {report.DescribeLeaks()}");
        Assert.That(sample.All.Blocks > 0, Is.EqualTo(bind == "leak" || statement == "forget"));
        if (sample.All.Blocks == 0)
        {
            Assert.That(report.Root.GetProperty("leaks").GetArrayLength(), Is.Zero);
        }
    }

    [Test]
    public void Stack_of_the_leak_runs_from_the_allocation_to_Main([Values("late", "preload")] string start)
    {
        var (sample, report) = RunSample(start);

        var leak = report.Leaks.Single();
        Assert.That((leak.Blocks, leak.Bytes), Is.EqualTo(sample.All));
        Assert.That(leak.Owner, Is.EqualTo(SampleAssembly));
        Assert.That(leak.Allocator, Is.EqualTo("System.Private.CoreLib.dll"));
        Assert.That(leak.Api, Does.Contain("AllocHGlobal").Or.Contain("NativeMemory.Alloc"));

        // Inside Bind there is the framework's allocation and no more than that; outside Main what started the program.
        var bind = leak.Stack.ToList().IndexOf(s_wayOfTheLeak[0]);
        Assert.That(leak.Stack.Skip(bind).Take(s_wayOfTheLeak.Length), Is.EqualTo(s_wayOfTheLeak));
        Assert.That(leak.Stack.Take(bind), Is.Not.Empty.And.All.Matches(AllocationMethod()));
        Assert.That(report.Capture.GetProperty("stacks").GetString(), Is.EqualTo("exact"));
        Assert.That(report.Capture.GetProperty("approximateStacks").GetInt64(), Is.Zero);
    }

    [Test]
    public void Blocks_that_a_forgotten_statement_keeps_are_SQLite_s([Values("late", "preload")] string start)
    {
        var (sample, report) = RunSample(start, "--bind", "free", "--statement", "forget");

        Assert.That(sample.Sqlite, Is.EqualTo(sample.All));
        Assert.That(report.Leaks.Select(leak => leak.Allocator), Is.All.EqualTo(SqliteLibrary));
        Assert.That(report.Leaks.Select(leak => leak.Owner), Is.All.EqualTo(SampleAssembly));
        Assert.That(report.Leaks.Select(leak => leak.Stack), Is.All.Contains(s_wayOfTheLeak[^1]));
        Assert.That(
            JsonReportFile.Sum(report.Leaks.Where(leak => leak.Allocator == SqliteLibrary)), Is.EqualTo(sample.Sqlite));
    }

    [Test]
    public void Both_leaks_at_once_are_told_apart_by_their_allocators([Values("late", "preload")] string start)
    {
        var (sample, report) = RunSample(start, "--bind", "leak", "--statement", "forget");

        Assert.That(
            JsonReportFile.Sum(report.Leaks.Where(leak => leak.Allocator == SqliteLibrary)), Is.EqualTo(sample.Sqlite));
        Assert.That(
            JsonReportFile.Sum(report.Leaks.Where(leak => leak.Stack.Contains(s_wayOfTheLeak[0]))),
            Is.EqualTo(sample.Pictures));
    }

    [TestCase(0)]
    [TestCase(1)]
    [TestCase(7)]
    public void Count_of_leaked_blocks_is_the_number_of_pictures(int pictures)
    {
        var (sample, report) = RunSample(
            "late", "--pictures", pictures.ToString(CultureInfo.InvariantCulture));

        Assert.That(sample.All.Blocks, Is.EqualTo(pictures));
        Assert.That(JsonReportFile.Sum(report.Leaks), Is.EqualTo(sample.All), report.DescribeLeaks());
    }

    [Test]
    public void Text_report_goes_to_stderr_and_begins_with_the_totals()
    {
        var run = ChildProcess.RunManaged(Sample, []);
        var sample = Unfreed.Parse(run.Output);

        Assert.That(run.ExitCode, Is.Zero);
        Assert.That(
            run.Error.Split('\n')[0],
            Is.EqualTo($"1 native leak: {sample.All.Blocks} blocks, {sample.All.Bytes.ToString("N0", CultureInfo.InvariantCulture)} bytes " +
                       "allocated while recording were not freed."));
        var at = 0;
        foreach (var method in s_wayOfTheLeak)
        {
            at = run.Error.IndexOf(method, at, StringComparison.Ordinal);
            Assert.That(at, Is.Positive, $"{method} is not in its place:\n{run.Error}");
        }
    }

    [TestCase("free")]
    [TestCase("transient")]
    [TestCase("pinned")]
    public void Text_report_of_a_repair_begins_with_No_native_leaks(string bind)
    {
        var run = ChildProcess.RunManaged(Sample, ["--bind", bind]);

        Assert.That(run.ExitCode, Is.Zero);
        Assert.That(run.Error, Does.StartWith("No native leaks:"));
    }

    [Test]
    public void Suppression_file_of_the_environment_hides_the_leak_and_is_named()
    {
        using var folder = new TemporaryFolder();
        var rules = folder.File("rules.supp");
        File.WriteAllText(rules, "# known\nleak:LeakingBlobWriter.Bind(\n");

        var run = ChildProcess.RunManaged(Sample, [], ("NATIVELEAKS_SUPPRESSIONS", rules));

        Assert.That(run.ExitCode, Is.Zero);
        Assert.That(
            run.Error,
            Does.StartWith("No native leaks:").And.Match($@"Suppressed \(leak:LeakingBlobWriter\.Bind\(; {Regex.Escape(rules)}:2\): [\d,]+ blocks, [\d,]+ bytes\.\n"));
    }

    [TestCase("none.supp", "There is no file")]
    [TestCase("bad.supp", "bad.supp:1: ")]
    [TestCase("folder", "regular file")]
    public void Suppression_file_that_cannot_be_read_is_one_line_and_the_report_is_made_without_it(string name, string complaint)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder.File("good.supp"), "leak:LeakingBlobWriter.Bind(");
        File.WriteAllText(folder.File("bad.supp"), "LeakingBlobWriter");
        Directory.CreateDirectory(folder.File("folder"));

        var run = ChildProcess.RunManaged(
            Sample, [], ("NATIVELEAKS_SUPPRESSIONS", $"{folder.File(name)}:{folder.File("good.supp")}"));

        Assert.That(run.ExitCode, Is.Zero);
        var lines = run.Error.Split('\n');
        Assert.That(lines[0], Does.StartWith("NativeLeakTracker: NATIVELEAKS_SUPPRESSIONS: ").And.Contains(complaint));
        Assert.That(lines[1], Does.StartWith("No native leaks:"));
    }

    [Test]
    public void Exit_codes_of_the_sample_are_its_own()
    {
        var run = ChildProcess.RunManaged(Sample, ["--no-such-option"]);

        Assert.That(run.ExitCode, Is.EqualTo(2));
        Assert.That(run.Error, Does.StartWith("unknown argument '--no-such-option'").And.Contains("No native leaks:"));
    }

    private static (long Blocks, long Bytes) Own(JsonReportFile report) =>
        JsonReportFile.Sum(report.Leaks.Where(leak => leak.Owner == SampleAssembly));

    private static (Unfreed Sample, JsonReportFile Report) RunSample(string start, params string[] arguments)
    {
        using var folder = new TemporaryFolder();
        var path = folder.File("report.json");
        (string, string)[] environment = start == "preload"
            ? [("NATIVELEAKS_REPORT", path), ChildProcess.Preload]
            : [("NATIVELEAKS_REPORT", path)];

        var run = ChildProcess.RunManaged(Sample, arguments, environment);

        Assert.That(run.ExitCode, Is.Zero, run.Error);
        Assert.That(run.Error, Is.Empty);
        return (Unfreed.Parse(run.Output), JsonReportFile.Read(path));
    }

    [GeneratedRegex(@"^System\.Runtime\.InteropServices\.(Marshal|NativeMemory)\.|^SystemNative_|^malloc$")]
    private static partial Regex AllocationMethod();

    /// <summary>What the sample says about itself in the one line that it prints.</summary>
    private sealed partial record Unfreed(
        (long Blocks, long Bytes) All, (long Blocks, long Bytes) Pictures, (long Blocks, long Bytes) Sqlite)
    {
        public static Unfreed Parse(string output)
        {
            var line = Line().Match(output);
            Assert.That(line.Success, Is.True, output);
            var all = Amount(line, "all");
            return line.Groups["sqlite"].Success
                ? new Unfreed(all, Amount(line, "pictures"), Amount(line, "sqlite"))
                : new Unfreed(all, all, (0, 0));
        }

        private static (long Blocks, long Bytes) Amount(Match line, string group)
        {
            var text = line.Groups[group].Value;
            if (text == "nothing")
            {
                return (0, 0);
            }

            var numbers = Number().Matches(text).Select(
                match => long.Parse(match.Value, NumberStyles.AllowThousands, CultureInfo.InvariantCulture)).ToList();
            return (numbers[0], numbers[1]);
        }

        [GeneratedRegex(
            @"left unfreed: (?<all>nothing|[\d,]+ blocks?, [\d,]+ bytes?)" +
            @"( \(pictures: (?<pictures>nothing|[^;]+); SQLite: (?<sqlite>[\d,]+ blocks?, [\d,]+ bytes?),.*\))?\n$")]
        private static partial Regex Line();

        [GeneratedRegex(@"\d[\d,]*\d|\d")]
        private static partial Regex Number();
    }
}
