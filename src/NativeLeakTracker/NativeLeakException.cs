namespace NativeLeaks;

/// <summary>Thrown by <see cref="NativeLeakTracker.AssertNoLeaks"/>; the message is the report.</summary>
public sealed class NativeLeakException : Exception
{
    /// <summary>Makes an exception whose message is the text of the report.</summary>
    public NativeLeakException(NativeLeakReport report)
        : base(report?.ToText()) => Report = report ?? throw new ArgumentNullException(nameof(report));

    /// <summary>What was found.</summary>
    public NativeLeakReport Report { get; }
}
