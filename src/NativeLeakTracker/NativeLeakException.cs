using NativeLeaks.Reports;

namespace NativeLeaks;

/// <summary>Thrown by <see cref="NativeLeakTracker.AssertNoLeaks"/>. The message is short: numbers, the largest leaks with the frames
/// that matter, and what to do. <see cref="Report"/> has everything.</summary>
public sealed class NativeLeakException : Exception
{
    /// <summary>Makes an exception whose message sums the report up.</summary>
    public NativeLeakException(NativeLeakReport report)
        : base(FailureMessage.Of(report ?? throw new ArgumentNullException(nameof(report)))) => Report = report;

    /// <summary>What was found.</summary>
    public NativeLeakReport Report { get; }
}
