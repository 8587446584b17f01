using System.Collections.Concurrent;

namespace NativeLeaks.Symbols.Native;

/// <summary>
/// Turns linkage names into those of the source: C++ by the C++ runtime that is in every .NET process, Rust by itself. Prints what
/// <c>c++filt --no-verbose</c> prints. A name that it cannot read, or that looks made to cost time or stack, stays as it is.
/// Thread-safe.
/// </summary>
internal static class Demangler
{
    /// <summary>Longer names stay mangled: what reads them recurses, and nobody would read them.</summary>
    public const int MaxMangledLength = 2_000;

    /// <summary>What no demangled name exceeds.</summary>
    public const int MaxDemangledLength = 16_000;

    private const int MaxCached = 20_000;

    private static readonly ConcurrentDictionary<string, string> s_cache = new(StringComparer.Ordinal);

    /// <summary>The name as its source has it; the same string when it is not mangled or cannot be read.</summary>
    public static string Demangle(string linkageName)
    {
        if (linkageName.Length is < 3 or > MaxMangledLength || !IsMangled(linkageName))
        {
            return linkageName;
        }

        if (s_cache.TryGetValue(linkageName, out string? known))
        {
            return known;
        }

        string name = Read(linkageName) is { Length: > 0 and <= MaxDemangledLength } read ? read : linkageName;
        if (s_cache.Count >= MaxCached)
        {
            s_cache.Clear();
        }

        s_cache[linkageName] = name;
        return name;
    }

    private static bool IsMangled(string name) =>
        name.StartsWith("_Z", StringComparison.Ordinal) || name.StartsWith("_R", StringComparison.Ordinal);

    // Rust's older names are C++ names by their form, so they are tried first.
    private static string? Read(string name) =>
        name[1] == 'R' ? RustV0.Demangle(name) : RustLegacy.Demangle(name) ?? CxxDemangling.Demangle(name);
}
