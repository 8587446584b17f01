namespace NativeLeaks.Analysis;

/// <summary>
/// Rules in LeakSanitizer's syntax that hide known, one-time allocations: <c>leak:pattern</c>, matched against method and
/// module of any frame.
/// </summary>
internal static class Suppressions
{
    /// <summary>The framework's own, each with the reason why nobody has to act on it.</summary>
    private static readonly string[] s_builtIn =
    [
        // libSystem.Native allocates its tables of signal handlers at the first use of Console, Process or
        // PosixSignalRegistration, once, and keeps them for the life of the process (pal_signal.c: InitializeSignalHandling).
        "InitializeSignalHandling",
        "SystemNative_InitializeTerminalAndSignalHandling",
        "SystemNative_SetPosixSignalHandler",

        // The terminal's description and the standard streams' encodings belong to System.Console for good.
        "System.ConsolePal.EnsureInitializedCore",

        // ICU keeps its default locale, resource bundles and collators in caches of the process, filled at their first use.
        "System.Globalization.",
    ];

    /// <summary>The rule that hides the stack; null when none does.</summary>
    public static string? Match(IReadOnlyList<LeakFrame> stack)
    {
        foreach (string pattern in s_builtIn)
        {
            foreach (LeakFrame frame in stack)
            {
                if (frame.Method is { } method && method.Contains(pattern, StringComparison.Ordinal))
                {
                    return "leak:" + pattern;
                }
            }
        }

        return null;
    }
}
