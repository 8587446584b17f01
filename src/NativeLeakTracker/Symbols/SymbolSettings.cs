using System.Globalization;

namespace NativeLeaks.Symbols;

/// <summary>
/// Where symbols may be looked for, beside the files themselves. Immutable. docs/environment.md lists the variables.
/// </summary>
internal sealed record SymbolSettings
{
    /// <summary>Nothing but the files themselves and the system's own folders.</summary>
    public static SymbolSettings None { get; } = new();

    /// <summary>
    /// Folders that may hold debug files and PDBs, in order: <c>NATIVELEAKS_SYMBOL_PATH</c>, separated by colons.
    /// </summary>
    public IReadOnlyList<string> SearchFolders { get; init; } = [];

    /// <summary>
    /// Servers that may be asked for debug files, in order: <c>DEBUGINFOD_URLS</c>, separated by spaces. Empty: nothing is ever
    /// fetched.
    /// </summary>
    public IReadOnlyList<Uri> DebuginfodServers { get; init; } = [];

    /// <summary>Where fetched files are kept: <c>DEBUGINFOD_CACHE_PATH</c>; null: the folder that debuginfod's own client uses.</summary>
    public string? DebuginfodCache { get; init; }

    /// <summary>How long one fetch may take in all: <c>DEBUGINFOD_TIMEOUT</c>, in seconds.</summary>
    public TimeSpan DebuginfodTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// Prefixes of source paths and what is shown in their place: <c>NATIVELEAKS_PATH_MAP</c>, <c>from=to</c> separated by
    /// semicolons. The first that fits counts.
    /// </summary>
    public IReadOnlyList<(string From, string To)> PathMap { get; init; } = [];

    /// <summary>What the environment of this process asks for.</summary>
    public static SymbolSettings FromEnvironment() => From(Environment.GetEnvironmentVariable);

    /// <summary>What variables ask for.</summary>
    internal static SymbolSettings From(Func<string, string?> variable)
    {
        var timeout = int.TryParse(
            variable("DEBUGINFOD_TIMEOUT"), NumberStyles.None, CultureInfo.InvariantCulture, out int seconds) && seconds > 0
            ? TimeSpan.FromSeconds(seconds)
            : None.DebuginfodTimeout;
        return new SymbolSettings
        {
            SearchFolders = Split(variable("NATIVELEAKS_SYMBOL_PATH"), ':'),
            DebuginfodServers =
            [
                .. Split(variable("DEBUGINFOD_URLS"), ' ')
                    .Select(static url => Uri.TryCreate(url, UriKind.Absolute, out Uri? server) ? server : null)
                    .OfType<Uri>()
                    .Where(static server => server.Scheme == Uri.UriSchemeHttp || server.Scheme == Uri.UriSchemeHttps),
            ],
            DebuginfodCache = variable("DEBUGINFOD_CACHE_PATH") is { Length: > 0 } cache ? cache : null,
            DebuginfodTimeout = timeout,
            PathMap =
            [
                .. Split(variable("NATIVELEAKS_PATH_MAP"), ';')
                    .Select(static pair => pair.Split('=', 2))
                    .Where(static pair => pair.Length == 2 && pair[0].Length > 0)
                    .Select(static pair => (pair[0], pair[1])),
            ],
        };
    }

    /// <summary>The path as it is shown.</summary>
    public string Map(string path)
    {
        foreach ((string from, string to) in PathMap)
        {
            if (path.StartsWith(from, StringComparison.Ordinal))
            {
                return to + path[from.Length..];
            }
        }

        return path;
    }

    private static string[] Split(string? value, char separator) =>
        value?.Split(separator, StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries) ?? [];
}
