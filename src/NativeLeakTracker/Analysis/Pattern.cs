namespace NativeLeaks.Analysis;

/// <summary>
/// LeakSanitizer's patterns: text that stands anywhere; <c>*</c> is any text, <c>^</c> at the beginning and <c>$</c> at the end
/// are the ends. Case counts. No character is escaped.
/// </summary>
/// <remarks>
/// Each piece between asterisks is looked for once, from left to right: the first place where a piece fits leaves most for those
/// behind it. So nothing is ever tried twice, whatever a hostile pattern looks like.
/// </remarks>
internal sealed class Pattern
{
    /// <summary>The longest pattern, in characters.</summary>
    public const int MaxLength = 1024;

    private readonly string[] _pieces;
    private readonly bool _fromStart;
    private readonly bool _toEnd;

    /// <exception cref="FormatException">It is empty or too long, or has control characters; the message says so.</exception>
    public Pattern(string text)
    {
        Check(text);
        _fromStart = text[0] == '^';
        _toEnd = text.Length > (_fromStart ? 1 : 0) && text[^1] == '$';
        _pieces = text[(_fromStart ? 1 : 0)..(_toEnd ? ^1 : ^0)].Split('*');
    }

    /// <summary>Whether the text has the pattern; never of an empty text.</summary>
    public bool Matches(string? text)
    {
        if (string.IsNullOrEmpty(text))
        {
            return false;
        }

        int last = _pieces.Length - 1;
        string first = _pieces[0];
        ReadOnlySpan<char> rest = text;
        if (last == 0 && _fromStart && _toEnd)
        {
            return text == first;
        }

        int from = 0;
        if (_fromStart)
        {
            if (!rest.StartsWith(first, StringComparison.Ordinal))
            {
                return false;
            }

            rest = rest[first.Length..];
            from = 1;
        }

        for (int i = from; i <= last - (_toEnd ? 1 : 0); i++)
        {
            int at = rest.IndexOf(_pieces[i], StringComparison.Ordinal);
            if (at < 0)
            {
                return false;
            }

            rest = rest[(at + _pieces[i].Length)..];
        }

        return !_toEnd || rest.EndsWith(_pieces[last], StringComparison.Ordinal);
    }

    private static void Check(string text)
    {
        if (text.Length == 0 || text is "^" or "$" or "^$")
        {
            throw new FormatException("An empty pattern would fit everything. Write * if that is meant.");
        }

        if (text.Length > MaxLength)
        {
            throw new FormatException($"A pattern has at most {MaxLength} characters; use * for the rest.");
        }

        if (text.Any(char.IsControl))
        {
            throw new FormatException("A pattern has no control characters; use * in their place.");
        }
    }
}
