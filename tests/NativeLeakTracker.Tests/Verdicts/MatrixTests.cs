using System.Runtime.Versioning;
using System.Text.Json;

namespace NativeLeaks.Tests;

/// <summary>
/// Each way to leak is found, with its verdict, blocks, bytes and line, and its clean form is not blamed: tests/fixtures/Matrix. Each sixth
/// case runs, all in one process; some once more in one of their own, where everything is used for the first time.
/// tests/prove/60-verdicts.sh runs all of them, in many configurations.
/// </summary>
[TestFixture]
[Parallelizable(ParallelScope.Self)]
[SupportedOSPlatform("linux")]
public sealed class MatrixTests
{
    private const string Fixture = "Matrix";
    private const int Every = 6;

    private static readonly Lazy<IReadOnlyDictionary<(string Case, string Form), JsonElement>> s_outcomes = new(RunAll);

    private static readonly string[] s_alone =
    [
        "handle-undisposed", "sqlite-close-refused", "holder-static-pointer",
    ];

    private static string[] Cases()
    {
        ChildResult list = ChildProcess.RunManaged(Fixture, ["list"]);
        return [.. list.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where((_, i) => i % Every == 0)];
    }

    [Test]
    public void Report_is_right([ValueSource(nameof(Cases))] string @case, [Values("clean", "leaking")] string form)
    {
        Assert.That(s_outcomes.Value, Does.ContainKey((@case, form)));
        AssertRight(s_outcomes.Value[(@case, form)]);
    }

    [Test]
    public void Report_is_right_at_the_first_use([ValueSource(nameof(s_alone))] string @case, [Values("clean", "leaking")] string form)
    {
        ChildResult run = ChildProcess.RunManaged(Fixture, [@case, form]);

        Assert.That(run.Output, Does.StartWith("{"), run.Error);
        AssertRight(JsonDocument.Parse(run.Output).RootElement);
    }

    private static Dictionary<(string, string), JsonElement> RunAll()
    {
        ChildResult run = ChildProcess.RunManaged(Fixture, ["all", $"{Every}"]);
        return run.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(static line => JsonDocument.Parse(line).RootElement)
            .Where(static outcome => outcome.TryGetProperty("case", out _))
            .ToDictionary(static outcome => (outcome.GetProperty("case").GetString()!, outcome.GetProperty("form").GetString()!));
    }

    private static void AssertRight(JsonElement outcome)
    {
        // A stale word, of a stack or of thread storage that nobody can scrub, makes "undisposed" of what is lost; both fail.
        string[] reasons =
        [
            .. outcome.GetProperty("reasons").EnumerateArray().Select(static r => r.GetString()!)
                .Where(static r => !r.StartsWith("expected lost: undisposed", StringComparison.Ordinal)),
        ];
        Assert.That(reasons, Is.Empty, outcome.TryGetProperty("report", out JsonElement report) ? report.GetString() : "");
    }
}
