namespace NativeLeaks.Analysis;

/// <summary>
/// Rules for what usual libraries allocate once and keep for the life of the process, each with the reason why nobody has to act
/// on it. A rule names the function that is the one-time start, never a library: a wrong rule would hide a leak.
/// </summary>
internal static class KnownAllocations
{
    public static IReadOnlyList<SuppressionRule> Rules { get; } =
    [
        // pal_signal.c, InitializeSignalHandling: tables and a pipe, at the first use of Console, Process or
        // PosixSignalRegistration.
        Rule("^InitializeSignalHandling$", "libSystem.Native's signal handling, set up once"),
        Rule("^SystemNative_InitializeTerminalAndSignalHandling$", "libSystem.Native's signal handling, set up once"),
        Rule("^SystemNative_SetPosixSignalHandler$", "libSystem.Native's signal handling, set up once"),

        // The terminal's description and the standard streams' encodings belong to System.Console for good.
        Rule("^System.ConsolePal.EnsureInitializedCore(", "System.Console's description of the terminal, made once"),

        // A stack trace with lines keeps the PDBs that it opened, or their copies in native memory, for as long as the assemblies live
        // (StackTraceSymbols._metadataCache).
        Rule("^System.Diagnostics.StackTraceSymbols.", "PDBs that stack traces opened, kept with their assemblies"),

        // ICU keeps locales, resource bundles, collators and time zones in caches of the process, filled at their first use. What it
        // hands out to these classes are sort handles, and CompareInfo keeps those for good. The native functions between
        // would be narrower, but most of them leave by a jump and are not on the stack.
        Rule("^System.Globalization.", "ICU's caches of cultures, filled at their first use"),
        Rule("^ucal_getWindowsTimeZoneID_", "ICU's cache of time zones, filled at its first use"),

        // OpenSSL 3 sets itself up under its own once-flags and cleans up at exit. The random generators that RAND_get0_primary and
        // the like make are the process's or the thread's: "get0" hands out what is not to be freed. The digests of .NET's
        // CryptoNative_EvpSha256 and the like are fetched once and kept in static variables (pal_evp.c).
        Rule("^OPENSSL_init_crypto$", "OpenSSL's start, once"),
        Rule("^OPENSSL_init_ssl$", "OpenSSL's start, once"),
        Rule("^ERR_", "OpenSSL's queue of errors, one for each thread; it goes with the thread"),
        Rule("^RAND_get0_", "OpenSSL's random generators, one for the process and two for each thread"),
        Rule("^CryptoNative_EvpSha", "OpenSSL's message digests, which .NET fetches once"),
        Rule("^CryptoNative_EvpMd5$", "OpenSSL's message digests, which .NET fetches once"),

        // glibc reads nsswitch.conf once (nss/nss_database.c) and keeps a resolver's state for each thread that asked
        // (resolv/resolv_context.c); the thread's end frees it.
        Rule("^__nss_database_get$", "glibc's table of name services, read once"),
        Rule("^__resolv_context_get$", "glibc's resolver, one for each thread that looked a name up"),
    ];

    private static SuppressionRule Rule(string pattern, string why) => new("leak:" + pattern, "built in: " + why, new Pattern(pattern));
}
