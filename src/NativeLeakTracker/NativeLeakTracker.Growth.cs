using NativeLeaks.Analysis;
using NativeLeaks.Capture;
using NativeLeaks.Reports;

namespace NativeLeaks;

/// <content>Assertions about what grows, round by round.</content>
public sealed partial class NativeLeakTracker
{
    /// <summary>
    /// Runs the body several times and throws if some stack leaves more blocks, or more bytes, behind with every round. What is
    /// allocated once, or by a cache that is full after the first rounds, does not count. Each round ends with garbage collections.
    /// </summary>
    /// <param name="body">One round.</param>
    /// <param name="rounds">Rounds that are measured, at least 2.</param>
    /// <param name="warmUp">Rounds before that.</param>
    /// <param name="options">What counts, and how it is judged; the limits are for one round.</param>
    /// <exception cref="NativeLeakException">Something grows, or was released wrongly; the message is the report.</exception>
    /// <exception cref="PlatformNotSupportedException">Nothing can be recorded here, and
    /// <see cref="NativeLeakOptions.WhenUnavailable"/> asks to be told.</exception>
    public static void AssertNoGrowth(Action body, int rounds = 5, int warmUp = 3, NativeLeakOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(body);
        GrowthRounds plan = new(rounds, warmUp);
        using NativeLeakTracker tracker = Start(options ?? NativeLeakOptions.Default);
        using GrowthMeter? meter = tracker.Meter(plan);
        for (int round = 0; round < plan.All; round++)
        {
            body();
            tracker.NoteRound(meter, plan, round);
        }

        tracker.AssertNoGrowth(meter, plan);
    }

    /// <summary>As <see cref="AssertNoGrowth(Action, int, int, NativeLeakOptions)"/> for an asynchronous body; rounds run one after the
    /// other.</summary>
    /// <inheritdoc cref="AssertNoGrowth(Action, int, int, NativeLeakOptions)"/>
    public static Task AssertNoGrowthAsync(Func<Task> body, int rounds = 5, int warmUp = 3, NativeLeakOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(body);
        return RunAsync(body, new GrowthRounds(rounds, warmUp), options ?? NativeLeakOptions.Default);

        static async Task RunAsync(Func<Task> body, GrowthRounds plan, NativeLeakOptions options)
        {
            using NativeLeakTracker tracker = Start(options);
            using GrowthMeter? meter = tracker.Meter(plan);
            for (int round = 0; round < plan.All; round++)
            {
                await body().ConfigureAwait(true);
                tracker.NoteRound(meter, plan, round);
            }

            tracker.AssertNoGrowth(meter, plan);
        }
    }

    private GrowthMeter? Meter(GrowthRounds plan)
    {
        ThrowIfUnavailable();
        return _ledger is null ? null : new GrowthMeter(_ledger, plan, JudgingRules.Of(_options));
    }

    private void NoteRound(GrowthMeter? meter, GrowthRounds plan, int round)
    {
        if (meter is null)
        {
            return;
        }

        using QuietRegion quiet = QuietRegion.Enter();
        meter.Unsettled ??= Settle(meter.Resolver).Unsettled;
        if (plan.IsNoted(round))
        {
            meter.Note(Filter());
        }
    }

    private void AssertNoGrowth(GrowthMeter? meter, GrowthRounds plan)
    {
        if (meter is null)
        {
            return;
        }

        using QuietRegion quiet = QuietRegion.Enter();
        LeakFindings findings = meter.Judge();
        IReadOnlyList<PairingBug> wrongReleases = WrongReleases(Filter(), meter.Resolver);
        if (findings.Leaks.Count > 0 || wrongReleases.Count > 0)
        {
            throw new NativeLeakException(ReportBuilder.Build(_ledger!, findings, _before, _started, $"in {plan.Measured} rounds", "running") with
            {
                Notes = [.. Notes(Filter(), meter.Unsettled)],
                PairingBugs = wrongReleases,
            });
        }
    }
}
