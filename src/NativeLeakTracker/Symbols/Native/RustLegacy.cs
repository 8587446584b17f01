using System.Globalization;
using System.Text;

namespace NativeLeaks.Symbols.Native;

/// <summary>
/// Rust's older mangling: a C++ nested name without parameters, <c>_ZN</c> identifiers <c>E</c>, whose last identifier is a hash.
/// Characters that no C++ identifier has are written as <c>$LT$</c> and the like.
/// </summary>
internal static class RustLegacy
{
    private static readonly Dictionary<string, string> s_escapes = new(StringComparer.Ordinal)
    {
        ["SP"] = "@", ["BP"] = "*", ["RF"] = "&", ["LT"] = "<", ["GT"] = ">", ["LP"] = "(", ["RP"] = ")", ["C"] = ",",
    };

    /// <summary>The path without the hash; null when the name is not of this mangling.</summary>
    public static string? Demangle(string name)
    {
        if (!name.StartsWith("_ZN", StringComparison.Ordinal))
        {
            return null;
        }

        List<string> identifiers = [];
        int at = 3;
        while (at < name.Length && name[at] != 'E')
        {
            int length = 0;
            int digits = at;
            while (at < name.Length && char.IsAsciiDigit(name[at]) && length < name.Length)
            {
                length = (length * 10) + (name[at++] - '0');
            }

            if (at == digits || length == 0 || length > name.Length - at)
            {
                return null;
            }

            identifiers.Add(name.Substring(at, length));
            at += length;
        }

        // Behind the E only what a compiler appends to a part or a copy of the function.
        bool ends = at < name.Length && (at + 1 == name.Length || name[at + 1] == '.');
        return ends && identifiers.Count > 1 && IsHash(identifiers[^1]) ? Join(identifiers) : null;
    }

    // A C++ method could be called "h" and sixteen digits; it is not likely to have many different ones.
    private static bool IsHash(string identifier) =>
        identifier is ['h', .. { Length: 16 } hash] &&
        hash.All(char.IsAsciiHexDigitLower) &&
        hash.Distinct().Count() >= 5;

    private static string? Join(List<string> identifiers)
    {
        StringBuilder path = new();
        for (int index = 0; index < identifiers.Count - 1; index++)
        {
            path.Append(index == 0 ? "" : "::");
            if (!TryAppend(path, identifiers[index]))
            {
                return null;
            }
        }

        return path.ToString();
    }

    private static bool TryAppend(StringBuilder path, string identifier)
    {
        // An identifier cannot begin with an escape: an underscore stands before it.
        ReadOnlySpan<char> rest = identifier.StartsWith("_$", StringComparison.Ordinal) ? identifier.AsSpan(1) : identifier;
        while (rest.Length > 0)
        {
            int taken = 1;
            if (rest.StartsWith(".."))
            {
                path.Append("::");
                taken = 2;
            }
            else if (rest[0] == '$')
            {
                int end = rest[1..].IndexOf('$');
                if (end < 0 || Unescape(rest.Slice(1, end)) is not { } text)
                {
                    return false;
                }

                path.Append(text);
                taken = end + 2;
            }
            else
            {
                path.Append(rest[0]);
            }

            rest = rest[taken..];
        }

        return true;
    }

    private static string? Unescape(ReadOnlySpan<char> escape)
    {
        if (s_escapes.TryGetValue(escape.ToString(), out string? text))
        {
            return text;
        }

        bool isCode = escape.Length is > 1 and <= 7 && escape[0] == 'u';
        return isCode && int.TryParse(escape[1..], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out int code) &&
            Rune.IsValid(code) && !Rune.IsControl(new Rune(code))
            ? char.ConvertFromUtf32(code)
            : null;
    }
}
