namespace NativeLeaks.Reports;

/// <summary>The environment variables that concern the report on exit; docs/environment.md lists them.</summary>
internal static class ExitSettings
{
    /// <summary><c>NATIVELEAKS=1</c>: report on exit without a line of code.</summary>
    public static bool IsRequested =>
        Environment.GetEnvironmentVariable("NATIVELEAKS") is { Length: > 0 } value && value is not ("0" or "false");

    /// <summary><c>NATIVELEAKS_REPORT</c>: a file to write instead of standard error; <c>%p</c> becomes the process id.</summary>
    public static string? ReportPath =>
        Environment.GetEnvironmentVariable("NATIVELEAKS_REPORT") is { Length: > 0 } path
            ? path.Replace("%p", Environment.ProcessId.ToString(System.Globalization.CultureInfo.InvariantCulture), StringComparison.Ordinal)
            : null;

    /// <summary>JSON for files that end in .json, or when <c>NATIVELEAKS_FORMAT=json</c> says so; text otherwise.</summary>
    public static bool IsJson =>
        Environment.GetEnvironmentVariable("NATIVELEAKS_FORMAT") is { Length: > 0 } format
            ? string.Equals(format, "json", StringComparison.OrdinalIgnoreCase)
            : ReportPath?.EndsWith(".json", StringComparison.OrdinalIgnoreCase) ?? false;
}
