using System.Runtime.CompilerServices;
using NativeLeaks.Analysis;
using NativeLeaks.Capture;
using NativeLeaks.Ledger;
using NativeLeaks.Reports;
using NativeLeaks.Symbols;

namespace NativeLeaks;

/// <summary>
/// Records native allocations (malloc and its family, by any library) while at least one tracker is open, and reports those
/// that were not freed, with the managed and native frames that made them.
/// </summary>
/// <remarks>
/// <code>
/// using var t = NativeLeakTracker.Start();
/// Bind(statement, blob);
/// t.AssertNoLeaks();
/// </code>
/// A tracker covers the flow in which it was started: the calling method, what it calls, and the tasks, timers and threads
/// that are started there. Native threads are covered too while only one tracker is open. All members may be called from any
/// thread.
/// </remarks>
public sealed partial class NativeLeakTracker : IDisposable
{
    private readonly NativeLeakOptions _options;
    private readonly LedgerReader? _ledger;
    private readonly FlowScope? _scope;
    private readonly CaptureCounters _before;
    private readonly DateTimeOffset _started = DateTimeOffset.UtcNow;
    private readonly long _firstSequence;
    private int _disposed;

    private NativeLeakTracker(NativeLeakOptions options, ScopeKind kind)
    {
        _options = options;
        if (ShimEngine.TryInstall(out string? failure))
        {
            _ledger = ShimEngine.Ledger!;
            _before = _ledger.SumCounters();
            _scope = FlowScope.Open(kind) ?? throw new InvalidOperationException(
                "No more scopes can be opened in this process: 65,535 trackers are open. Dispose those that are done.");
        }
        else if (ShimEngine.IsSupportedPlatform)
        {
            throw new InvalidOperationException("Native allocations cannot be recorded: " + failure);
        }
        else
        {
            Unavailable.SayOnce(failure!);
            WrapperLedger.Shared.Open();
            _firstSequence = WrapperLedger.Shared.Sequence;
        }

        if (options.CheckPairing && !PairingCheck.TryBegin())
        {
            _scope?.Close();
            throw new InvalidOperationException(
                "There is no memory for the check of releases (2 MB); start with NativeLeakOptions.CheckPairing = false.");
        }
    }

    /// <summary>
    /// Totals of what was recorded in this process; zeros before the first tracker. Costs a loop over the threads, no pause:
    /// cheap enough to poll.
    /// </summary>
    public static NativeLeakStatistics Statistics
    {
        get
        {
            CaptureCounters sum = ShimEngine.Ledger?.SumCounters() ?? default;
            return new NativeLeakStatistics(
                sum.AllocatedBlocks - sum.FreedBlocks,
                sum.AllocatedBytes - sum.FreedBytes,
                sum.AllocatedBlocks,
                sum.AllocatedBytes);
        }
    }

    /// <summary>
    /// Whether native allocations are being recorded. False on platforms without the engine, where only the <c>Tracked*</c>
    /// wrappers record.
    /// </summary>
    public bool IsActive => _ledger is not null && Volatile.Read(ref _disposed) == 0;

    /// <summary>Opens a scope with the default options.</summary>
    /// <exception cref="InvalidOperationException">The engine does not start on a platform that it supports; the message says
    /// why.</exception>
    public static NativeLeakTracker Start() => Start(NativeLeakOptions.Default);

    /// <summary>Opens a scope. The first in a process installs the hooks (about a millisecond); others cost microseconds.</summary>
    /// <exception cref="InvalidOperationException">The engine does not start on a platform that it supports; the message says
    /// why.</exception>
    /// <exception cref="ArgumentException">An option makes no sense; the message says which.</exception>
    /// <exception cref="InvalidDataException">A suppression file has a line that is no rule, or is no text file.</exception>
    /// <exception cref="FileNotFoundException">A suppression file is not there.</exception>
    /// <exception cref="UnauthorizedAccessException">A suppression file may not be read.</exception>
    /// <exception cref="IOException">A suppression file cannot be read for another reason.</exception>
    public static NativeLeakTracker Start(NativeLeakOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return Start(options, options.Scope == NativeLeakScope.Process ? ScopeKind.Process : ScopeKind.Flow);
    }

    /// <summary>
    /// Opens a region whose allocations nobody is blamed for; disposing the result ends it. It follows the flow as a tracker
    /// does. Costs microseconds; never throws.
    /// </summary>
    public static IDisposable Ignore()
    {
        using QuietRegion quiet = QuietRegion.Enter();
        return new IgnoredRegion();
    }

    /// <summary>
    /// Prints a leak report to standard error when the process exits, of everything recorded from now on (under LD_PRELOAD:
    /// from the first instruction). <c>NATIVELEAKS_REPORT</c> names a file instead; docs/environment.md has all variables.
    /// Calling it again changes nothing.
    /// </summary>
    /// <exception cref="InvalidOperationException">The engine does not start on a platform that it supports; the message says
    /// why.</exception>
    public static void ReportOnExit()
    {
        using QuietRegion quiet = QuietRegion.Enter();
        ExitReport.Schedule();
    }

    /// <summary>
    /// What lies at an address of this process: the mapping, the functions with file and line, and the instructions around it, the
    /// call marked. Of managed code, the addresses of recorded frames are known (<see cref="LeakFrame.Address"/>). Reads the
    /// library's files; costs milliseconds, the first time some hundred.
    /// </summary>
    /// <exception cref="PlatformNotSupportedException">This is not Linux x64.</exception>
    public static AddressExplanation Explain(ulong address)
    {
        if (!ShimEngine.IsSupportedPlatform)
        {
            throw new PlatformNotSupportedException("Addresses are explained on Linux x64 (glibc) only.");
        }

        using QuietRegion quiet = QuietRegion.Enter();
        return new AddressExplainer(ShimEngine.Ledger, SymbolSettings.FromEnvironment()).Explain(address);
    }

    /// <summary>
    /// What is outstanding now. Where something is, collects garbage and waits for finalizers until nothing changes, within
    /// <see cref="NativeLeakOptions.SettleTimeout"/>; then costs a pass over the live blocks and the naming of their stacks.
    /// </summary>
    /// <exception cref="ObjectDisposedException">The tracker was disposed.</exception>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public unsafe NativeLeakReport GetReport()
    {
        int outermost;
        return Judge(isCleanTold: true, (ulong)&outermost)!;
    }

    /// <summary>Throws when native memory that was allocated in the scope is outstanding, was left to a finalizer, or was released
    /// wrongly.</summary>
    /// <exception cref="NativeLeakException">There are leaks or pairing bugs; the message is the report.</exception>
    /// <exception cref="PlatformNotSupportedException">Nothing can be recorded here, and
    /// <see cref="NativeLeakOptions.WhenUnavailable"/> asks to be told.</exception>
    /// <exception cref="ObjectDisposedException">The tracker was disposed.</exception>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public unsafe void AssertNoLeaks()
    {
        ThrowIfUnavailable();
        int outermost;
        if (Judge(isCleanTold: false, (ulong)&outermost) is { } report &&
            (report.Leaks.Count > 0 || report.PairingBugs.Count > 0 || (_options.Strict && report.ManagedPointers.Count > 0)))
        {
            throw new NativeLeakException(report);
        }
    }

    /// <summary>Closes the scope. Never throws; the hooks stay in place for the next one.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }

        if (_options.CheckPairing)
        {
            PairingCheck.End();
        }

        if (_scope is null)
        {
            WrapperLedger.Shared.Close();
        }
        else
        {
            _scope.Close();
        }
    }

    internal static NativeLeakTracker Start(NativeLeakOptions options, ScopeKind kind)
    {
        using QuietRegion quiet = QuietRegion.Enter();

        // What is wrong with the rules is said here, and not by the one test that leaks.
        _ = JudgingRules.Of(options);
        return new NativeLeakTracker(options, kind);
    }

    private void ThrowIfUnavailable()
    {
        if (_ledger is null && _options.WhenUnavailable == UnavailableBehavior.Throw)
        {
            throw new PlatformNotSupportedException(Unavailable.Reason);
        }
    }

    // Made anew each time: collections begin new epochs.
    private BlockFilter Filter() => _options.Scope == NativeLeakScope.Process
        ? BlockFilter.Process(_ledger!, _scope!.FirstSequence)
        : BlockFilter.Flow(_ledger!, _scope!);

    private (Outstanding Last, string? Unsettled) Settle(ContextResolver resolver) => Settling.Until(
        () => Outstanding.Measure(_ledger!, Filter(), resolver),
        _ledger!.SumCounters,
        static outstanding => outstanding.Blocks == 0,
        _options.SettleTimeout);

    /// <summary>Null: there is nothing to blame anybody for, and nobody wants to be told of it.</summary>
    /// <param name="isCleanTold">Whether somebody does.</param>
    /// <param name="outermost">The address of a local of the method that the caller called.</param>
    private NativeLeakReport? Judge(bool isCleanTold, ulong outermost)
    {
        ObjectDisposedException.ThrowIf(Volatile.Read(ref _disposed) != 0, this);
        using QuietRegion quiet = QuietRegion.Enter();
        if (_ledger is null)
        {
            NativeLeakReport report = WrapperAnalysis.Report(_firstSequence, _started, JudgingRules.Of(_options));
            return _options.CheckPairing ? report : report with { PairingBugs = [] };
        }

        Questioner asked = Questioner.Here(outermost);
        using var resolver = new ContextResolver(_ledger, SymbolSettings.FromEnvironment(), isThisProcess: true);
        (Outstanding outstanding, string? unsettled) = Settle(resolver);
        BlockFilter filter = Filter();
        IReadOnlyList<PairingBug> wrongReleases = WrongReleases(filter, resolver);
        if (!isCleanTold && outstanding is { Blocks: 0, Finalized: 0 } && wrongReleases.Count == 0)
        {
            return null;
        }

        var verdicts = new Verdicts(ShimEngine.Home!, _ledger, resolver, _scope!.FirstSequence, asked);
        LeakFindings findings = LeakAnalysis.Judge(_ledger, filter, resolver, JudgingRules.Of(_options), verdicts);
        NativeLeakReport judged = ReportBuilder.Build(_ledger, findings, _before, _started, "since Start()", "running");
        return judged with { Notes = [.. judged.Notes, .. Notes(filter, unsettled)], PairingBugs = wrongReleases };
    }

    private IReadOnlyList<PairingBug> WrongReleases(BlockFilter filter, ContextResolver resolver) =>
        _options.CheckPairing ? PairingBugs.Read(_ledger!, filter, resolver) : [];

    private static IEnumerable<string> Notes(BlockFilter filter, string? unsettled)
    {
        if (unsettled is not null)
        {
            yield return unsettled;
        }

        if (filter.IsFlowLost)
        {
            yield return "the tracker was started in another asynchronous flow, such as an async set-up, so all that was allocated outside of " +
                "other trackers is counted; start it in the test, use your framework's [AssertNoNativeLeaks], or set NativeLeakOptions.Scope";
        }
    }
}
