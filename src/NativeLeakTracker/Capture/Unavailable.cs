namespace NativeLeaks.Capture;

/// <summary>Says once a process that native allocations are not recorded, and why.</summary>
internal static class Unavailable
{
    private static string? s_reason;

    public static string Reason => s_reason ?? "Native allocations are not recorded.";

    public static void SayOnce(string reason)
    {
        string line = $"NativeLeakTracker: nothing is recorded: {reason}.";
        if (Interlocked.CompareExchange(ref s_reason, line, null) is null)
        {
            Reports.StandardError.TryWriteLine(line);
        }
    }
}
