using System.Buffers;

namespace NativeLeaks.Attach;

/// <summary>
/// Reads types from the runtime's spellings, of which there are two: the DAC's and that of events. Whatever cannot be read
/// gives null. The text comes from another process: depth is bounded, and nothing is read twice.
/// </summary>
internal sealed class TypeText(string text, IReadOnlyList<TypeName> typeArguments)
{
    private const int MaxDepth = 24;
    private const int MaxRank = 32;

    private static readonly Dictionary<string, string> s_keywords = new(StringComparer.Ordinal)
    {
        ["bool"] = "Boolean", ["wchar"] = "Char", ["char"] = "Char", ["void"] = "Void",
        ["int8"] = "SByte", ["int16"] = "Int16", ["int32"] = "Int32", ["int64"] = "Int64", ["int"] = "IntPtr",
        ["unsigned int8"] = "Byte", ["unsigned int16"] = "UInt16", ["unsigned int32"] = "UInt32",
        ["unsigned int64"] = "UInt64", ["unsigned int"] = "UIntPtr",
        ["float32"] = "Single", ["float64"] = "Double", ["string"] = "String", ["object"] = "Object",
        ["refany"] = "TypedReference", ["typedbyref"] = "TypedReference",
    };

    private static readonly SearchValues<char> s_bounds = SearchValues.Create("0123456789.,*");

    private int _at;

    public bool IsAtEnd => _at == text.Length;

    public TypeName? ReadType() => ReadType(0);

    /// <summary><c>(A, B)</c>, and nothing behind it.</summary>
    public List<TypeName>? ReadParameters() =>
        !Take("(") ? null
        : Take(")") ? (IsAtEnd ? [] : null)
        : ReadList(")", 0) is { } list && IsAtEnd ? list : null;

    /// <summary><c>[[A, Assembly],[B, Assembly]]</c></summary>
    public List<TypeName>? ReadQualifiedArguments() => ReadQualifiedArguments(0);

    private TypeName? ReadType(int depth)
    {
        if (depth > MaxDepth)
        {
            return null;
        }

        SkipWords();
        TypeName? type = Peek('!') ? ReadVariable() : ReadNamed(depth);
        return type is null ? null : type with { Suffix = type.Suffix + ReadSuffix() };
    }

    private void SkipWords()
    {
        while (Take(" ") || Take("class ") || Take("value class ") || Take("pinned "))
        {
        }

        // What a modifier says is for compilers.
        while (Take("required_modifier ") || Take("optional_modifier "))
        {
            int end = text.IndexOf(' ', _at);
            _at = end < 0 ? text.Length : end + 1;
            while (Take("class ") || Take("value class "))
            {
            }
        }
    }

    // !0 is an argument of the type, !!0 one of the method, which is not told.
    private TypeName? ReadVariable()
    {
        bool isMethods = Take("!!");
        if (!isMethods && !Take("!"))
        {
            return null;
        }

        int start = _at;
        while (_at < text.Length && char.IsAsciiDigit(text[_at]) && _at - start < 4)
        {
            _at++;
        }

        return !int.TryParse(text.AsSpan(start, _at - start), out int index) ? null
            : !isMethods && index < typeArguments.Count ? typeArguments[index]
            : new TypeName("?", [], "");
    }

    private TypeName? ReadNamed(int depth)
    {
        string prefix = Take("unsigned ") ? "unsigned " : "";
        string name = prefix + ReadName();
        if (name.Length == prefix.Length)
        {
            return null;
        }

        List<TypeName>? arguments = [];
        if (Peek('<'))
        {
            Take("<");
            arguments = ReadList(">", depth + 1);
        }
        else if (Take("[["))
        {
            _at -= 2;
            arguments = ReadQualifiedArguments(depth + 1);
        }
        else if (Peek('[') && _at + 1 < text.Length && text[_at + 1] is not (']' or ',' or '*') && !char.IsAsciiDigit(text[_at + 1]))
        {
            Take("[");
            arguments = ReadList("]", depth + 1);
        }

        // ClrMD's own spelling has each type's arguments behind it: Outer<A>+Inner.
        while (arguments is not null && Take("+"))
        {
            name += "+" + ReadName();
            if (Take("<"))
            {
                arguments = ReadList(">", depth + 1) is { } own ? [.. arguments, .. own] : null;
            }
        }

        return arguments is null ? null : new TypeName(s_keywords.GetValueOrDefault(name, name), arguments, "");
    }

    // Angle brackets where a part of the name begins are the compiler's; behind it they hold arguments.
    private string ReadName()
    {
        int start = _at, compilers = 0;
        for (; _at < text.Length; _at++)
        {
            char c = text[_at];
            bool isBeginning = _at == start || text[_at - 1] is '.' or '+';
            if (c == '<' && (isBeginning || compilers > 0))
            {
                compilers++;
            }
            else if (c == '>' && compilers > 0)
            {
                compilers--;
            }
            else if (compilers == 0 && c is '<' or '>' or '[' or ']' or ',' or '&' or '*' or ' ' or '(' or ')')
            {
                break;
            }
        }

        return text[start.._at];
    }

    private List<TypeName>? ReadQualifiedArguments(int depth)
    {
        if (!Take("["))
        {
            return null;
        }

        List<TypeName> list = [];
        do
        {
            if (!Take("[") || ReadType(depth) is not { } type)
            {
                return null;
            }

            // The assembly's name.
            int end = text.IndexOf(']', _at);
            if (end < 0)
            {
                return null;
            }

            _at = end + 1;
            list.Add(type);
        }
        while (Take(","));

        return Take("]") ? list : null;
    }

    private List<TypeName>? ReadList(string end, int depth)
    {
        List<TypeName> list = [];
        do
        {
            if (ReadType(depth) is not { } type)
            {
                return null;
            }

            list.Add(type);
        }
        while (Take(","));

        return Take(end) ? list : null;
    }

    private string ReadSuffix()
    {
        string suffix = "";
        while (suffix.Length < MaxRank)
        {
            string? next = Take("&") || Take(" ByRef") ? "&" : Take("*") ? "*" : Take(" pinned") ? "" : ReadRank();
            if (next is null)
            {
                break;
            }

            suffix += next;
        }

        return suffix;
    }

    // [], [,] and, with bounds, [0...,0...].
    private string? ReadRank()
    {
        int end = Peek('[') ? text.IndexOf(']', _at) : -1;
        if (end < 0 || text.AsSpan(_at + 1, end - _at - 1).ContainsAnyExcept(s_bounds))
        {
            return null;
        }

        int commas = Math.Min(text.AsSpan(_at, end - _at).Count(','), MaxRank);
        _at = end + 1;
        return "[" + new string(',', commas) + "]";
    }

    private bool Peek(char c) => _at < text.Length && text[_at] == c;

    private bool Take(string token)
    {
        if (string.CompareOrdinal(text, _at, token, 0, token.Length) != 0)
        {
            return false;
        }

        _at += token.Length;
        return true;
    }
}
