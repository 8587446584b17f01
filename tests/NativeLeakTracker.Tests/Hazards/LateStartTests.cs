using System.Text.Json;

namespace NativeLeaks.Tests.Hazards;

/// <summary>Hooks that come into a running process see what those see that were there from the first instruction.</summary>
[TestFixture]
[Parallelizable(ParallelScope.Self)]
public sealed class LateStartTests
{
    private static readonly Dictionary<string, (long Allocated, long Freed)> s_known = new()
    {
        ["NativeMemory"] = (400, 400),
        ["Marshal"] = (500, 500),
        ["strdup and fopen"] = (200, 200),
        ["malloc of libc"] = (100, 100),
        ["library loaded later"] = (100, 100),
    };

    private static readonly string[] s_unknown = ["SQLite", "getaddrinfo"];

    [Test]
    public void Late_start_counts_what_preload_counts_phase_by_phase()
    {
        var late = Phases("late", "after");
        var preload = Phases("preload", "after");

        Assert.That(late, Is.EquivalentTo(preload));
        AssertKnown(late);
        Assert.That(late["unseen imports"].Allocated, Is.Zero);
    }

    // Compiled code that holds the address of a function of libc as a constant is not changed; it is counted.
    [Test]
    public void Imports_bound_before_the_late_start_are_counted_alike_or_as_unseen()
    {
        var late = Phases("late", "before");
        var preload = Phases("preload", "before");

        AssertKnown(preload);
        if (late["unseen imports"].Allocated > 0)
        {
            // Only [DllImport("libc")] malloc and free themselves can hide there.
            late["malloc of libc"] = preload["malloc of libc"];
            late["unseen imports"] = preload["unseen imports"];
        }

        Assert.That(late, Is.EquivalentTo(preload));
    }

    [Test]
    public void Started_and_detached_1000_times_under_load_loses_nothing_and_invents_nothing()
    {
        var report = HazardRun.Report("late", "detach", "1000");

        Assert.That(JsonReportFile.Sum(report.Leaks), Is.EqualTo((100, 33_300)), report.DescribeLeaks());
        Assert.That(report.Leaks.Select(static leak => leak.Stack), Is.All.Contains("Hazards.Detaches.Keep(Int32, Int32)"));
    }

    private static void AssertKnown(Dictionary<string, (long Allocated, long Freed)> counts)
    {
        foreach ((string phase, (long Allocated, long Freed) expected) in s_known)
        {
            Assert.That(counts[phase], Is.EqualTo(expected), phase);
        }

        foreach (string phase in s_unknown)
        {
            Assert.That(counts[phase].Allocated, Is.Positive.And.EqualTo(counts[phase].Freed), phase);
        }
    }

    private static Dictionary<string, (long Allocated, long Freed)> Phases(string start, string bound)
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("phases.json");
        ChildResult run = ChildProcess.RunManaged(
            "Hazards",
            ["phases", path, bound, Path.Combine(RepositoryPaths.NativeFixtures, "libblocks.so")],
            HazardRun.Environment(start));
        Assert.That((run.ExitCode, run.Error), Is.EqualTo((0, "")));
        return JsonSerializer.Deserialize<Dictionary<string, long[]>>(File.ReadAllBytes(path))!
            .ToDictionary(static phase => phase.Key, static phase => (phase.Value[0], phase.Value.ElementAtOrDefault(1)));
    }
}
