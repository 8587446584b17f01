namespace NativeLeaks.Analysis;

/// <summary>Where rules come from: the options, their files, the environment's files, and what is built in.</summary>
internal static class SuppressionSources
{
    private const string Variable = "NATIVELEAKS_SUPPRESSIONS";

    /// <summary>All that count beside the options. Those of the user come first: the report then names them.</summary>
    /// <exception cref="ArgumentException">A rule among the options is none.</exception>
    /// <exception cref="IOException">A file cannot be read; also as <see cref="FileNotFoundException"/>,
    /// <see cref="UnauthorizedAccessException"/> and <see cref="InvalidDataException"/>.</exception>
    public static IReadOnlyList<SuppressionRule> Of(NativeLeakOptions options) =>
    [
        .. options.Suppressions.Select(FromOptions).OfType<SuppressionRule>(),
        .. options.SuppressionFiles.SelectMany(SuppressionFile.Read),
        .. FilesOfEnvironment().SelectMany(SuppressionFile.Read),
        .. KnownAllocations.Rules,
    ];

    /// <summary>Those of the environment where nobody can catch an exception: what cannot be read is told and left out.</summary>
    public static IReadOnlyList<SuppressionRule> OfEnvironment(Action<string> tell)
    {
        List<SuppressionRule> rules = [];
        foreach (string path in FilesOfEnvironment())
        {
            try
            {
                rules.AddRange(SuppressionFile.Read(path));
            }
            catch (Exception e) when (Files.RegularFile.IsFileTrouble(e) || e is InvalidDataException)
            {
                tell($"{Variable}: {e.Message} The report is made without its rules.");
            }
        }

        return [.. rules, .. KnownAllocations.Rules];
    }

    private static string[] FilesOfEnvironment() =>
        Environment.GetEnvironmentVariable(Variable)?.Split(
            Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries) ?? [];

    private static SuppressionRule? FromOptions(string rule)
    {
        try
        {
            return SuppressionRule.Parse(rule, "options");
        }
        catch (FormatException e)
        {
            throw new ArgumentException($"{nameof(NativeLeakOptions)}.{nameof(NativeLeakOptions.Suppressions)}: '{rule}': {e.Message}");
        }
    }
}
