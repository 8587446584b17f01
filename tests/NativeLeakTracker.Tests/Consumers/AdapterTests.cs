using System.Text;

namespace NativeLeaks.Tests.Consumers;

/// <summary>
/// What all adapters promise. Each is run by its framework's own runner on a project of tests/consumers that knows the packages only,
/// in parallel. The leaking tests of those projects have the bytes that they leak in their name.
/// </summary>
[Parallelizable(ParallelScope.Self)]
[TestFixture("nunit"), TestFixture("xunit"), TestFixture("mstest")]
public sealed class AdapterTests(string framework)
{
    private readonly string _framework = framework;
    private Dictionary<string, ConsumerResult> _results = [];
    private Dictionary<string, ConsumerResult> _withoutEngine = [];
    private string[] _assemblies = [];

    [OneTimeSetUp]
    public void Run_the_consumer()
    {
        using var consumer = new ConsumerRun("consumers", _framework);
        _results = consumer.Test().ToDictionary(static pair => NameOf(pair.Key), static pair => pair.Value with
        {
            // Before the folder goes.
            Attachments = [.. pair.Value.Attachments.Select(static file => Path.GetExtension(file) + File.ReadAllText(file))],
        });
        _assemblies = [.. Directory.EnumerateFiles(consumer.Output, "*.dll").Select(static file => Path.GetFileNameWithoutExtension(file))];

        foreach (string settings in Directory.EnumerateFiles(consumer.Output, "*.runtimeconfig.json"))
        {
            // As under NativeAOT, where the engine does not run.
            string text = File.ReadAllText(settings);
            const string Properties = "\"configProperties\": {";
            Assert.That(text, Does.Contain(Properties));
            File.WriteAllText(settings, text.Replace(
                Properties,
                Properties + "\"System.Runtime.CompilerServices.RuntimeFeature.IsDynamicCodeSupported\": false,",
                StringComparison.Ordinal));
        }

        _withoutEngine = consumer.Test("--no-build").ToDictionary(static pair => NameOf(pair.Key), static pair => pair.Value);
    }

    [Test]
    public void Exactly_the_leaking_tests_fail()
    {
        IEnumerable<string> leaking = _results.Keys.Where(Leaks);

        Assert.That(_results.Where(static pair => pair.Value.Outcome == "Failed").Select(static pair => pair.Key), Is.EquivalentTo(leaking));
        Assert.That(
            _results.Where(static pair => pair.Value.Outcome == "Passed").Select(static pair => pair.Key),
            Is.EquivalentTo(_results.Keys.Except(leaking)));
        Assert.That(_results, Has.Count.EqualTo(ExpectedTests));
    }

    [Test]
    public void Message_of_a_leaking_test_is_about_its_own_blocks_only()
    {
        foreach (var (name, bytes) in LeakingBytes())
        {
            Assert.That(_results[name].Message, Does.Contain($"1 native leak: 1 block, {bytes:N0} bytes"), name);
        }
    }

    [Test]
    public void Attached_are_the_report_as_text_and_as_JSON()
    {
        foreach (var (name, bytes) in LeakingBytes().Where(static leak => !IsUnattached(leak.Name)))
        {
            IReadOnlyList<string> attachments = _results[name].Attachments;
            var reports = attachments
                .Where(static file => file.StartsWith(".json", StringComparison.Ordinal))
                .Select(static file => JsonReportFile.Parse(Encoding.UTF8.GetBytes(file[".json".Length..])));

            // A leak in a constraint is one of the whole test too, which the attribute on the assembly reports beside it.
            Assert.That(attachments, Has.Some.StartsWith(".txt").And.Contains($"1 block, {bytes:N0} bytes"), name);
            Assert.That(reports.Select(static report => JsonReportFile.Sum(report.Leaks)), Has.Some.EqualTo((1, bytes)), name);
        }
    }

    [Test]
    public void Passing_test_has_nothing_attached() =>
        // MSTest keeps the files of the try that failed.
        Assert.That(
            _results
                .Where(static pair => pair.Value is { Outcome: "Passed", Attachments.Count: > 0 })
                .Select(static pair => pair.Key)
                .Except(["Second_try_frees"]),
            Is.Empty);

    [Test]
    public void Failing_test_that_leaks_keeps_its_own_failure()
    {
        ConsumerResult result = _results["Fails_and_leaks_107"];

        Assert.That(result.Message, Does.Contain("its own failure").And.Not.Contain("native leak"));
        Assert.That(result.Output, Does.Contain("1 block, 107 bytes"));
        Assert.That(result.Attachments, Has.Count.EqualTo(2));
    }

    [Test]
    public void Without_the_engine_a_passing_test_is_shown_as_not_executed_and_says_why()
    {
        ConsumerResult result = _withoutEngine["Leaks_101"];

        Assert.That(result.Outcome, Is.EqualTo("NotExecuted"));
        Assert.That(result.Message + result.Output, Does.Contain("nothing is recorded"));
        Assert.That(_withoutEngine["Fails_and_leaks_107"].Message, Does.Contain("its own failure"));
    }

    [Test]
    public void Nothing_but_the_library_comes_along()
    {
        string[] foreign = ["Iced", "Microsoft.Diagnostics.Runtime", "Microsoft.Diagnostics.Tracing.TraceEvent", "Azure.Core"];

        Assert.That(_assemblies.Where(static name => name.StartsWith("NativeLeakTracker", StringComparison.Ordinal)), Has.Exactly(2).Items);
        Assert.That(_assemblies.Intersect(foreign), Is.Empty);
    }

    private int ExpectedTests => _framework switch { "nunit" => 74, "xunit" => 27, _ => 65 };

    // Repetitions are results of their own, and NUnit keeps only the message of a repetition that failed. In xUnit.net a tracker of the
    // test class itself attaches nothing.
    private static bool IsUnattached(string name) =>
        name.StartsWith("Second_repetition", StringComparison.Ordinal) || name.StartsWith("Dispose_leaks", StringComparison.Ordinal);

    // xUnit.net says Consumer.Class.Method; the methods of the parallel classes need the class to be told apart.
    private static string NameOf(string name)
    {
        int arguments = name.IndexOf('(', StringComparison.Ordinal);
        string path = arguments < 0 ? name : name[..arguments];
        string method = path[(path.LastIndexOf('.') + 1)..].Trim();
        string type = path.Contains("Parallel", StringComparison.Ordinal) ? path[..path.LastIndexOf('.')] + "." : "";
        return type + method + (arguments < 0 ? "" : name[arguments..]);
    }

    // Every tenth number leaks, of xUnit.net's five the first.
    private static bool Leaks(string name) =>
        name.Contains("eaks_", StringComparison.Ordinal) ||
        name.StartsWith("Case", StringComparison.Ordinal) && name.Contains("106", StringComparison.Ordinal) ||
        name.Contains("Number", StringComparison.Ordinal) && name.TrimEnd(')').EndsWith('0');

    private IEnumerable<(string Name, int Bytes)> LeakingBytes() =>
        from name in _results.Keys
        where Leaks(name) && name != "Fails_and_leaks_107" && !name.StartsWith("Passes_by_exception", StringComparison.Ordinal)
        let digits = name.StartsWith("Case", StringComparison.Ordinal) ? "106" : new string([.. name.Where(char.IsAsciiDigit)])
        let number = int.Parse(digits, System.Globalization.CultureInfo.InvariantCulture)
        select (name, name.Contains("Number", StringComparison.Ordinal) ? 1_000 + number : number);
}
