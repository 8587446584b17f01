namespace NativeLeaks.Symbols.Managed;

/// <summary>
/// Reads the names that C# compilers make up as the source has them: <c>&lt;SaveAsync&gt;d__3.MoveNext</c> is
/// <c>SaveAsync</c>, <c>&lt;&gt;c.&lt;Collect&gt;b__7_0</c> a lambda in <c>Collect</c>,
/// <c>&lt;Outer&gt;g__Inner|2_0</c> the local function <c>Outer.Inner</c>. (dotnet/roslyn: GeneratedNameKind.cs,
/// GeneratedNames.cs.)
/// </summary>
internal static class SourceNames
{
    /// <summary>What a lambda is called; the source gives it no name.</summary>
    public const string Lambda = "<lambda>";

    private const int MaxNesting = 8;

    /// <summary>The method, made up or not, whose body a state machine holds; null for another type.</summary>
    public static string? MethodOfStateMachine(string type)
    {
        int end = ClosingBracket(type);
        if (end < 0 || end + 1 >= type.Length || type[end + 1] != 'd')
        {
            return null;
        }

        ReadOnlySpan<char> rest = type.AsSpan(end + 2);
        bool isKind = rest.Length == 0 || rest.StartsWith("__", StringComparison.Ordinal) || rest[0] == '`';
        return end > 1 && isKind ? type[1..end] : null;
    }

    /// <summary>
    /// Whether a type was made up to hold lambdas and what they capture: its methods are its outer type's, and a parameter of
    /// it stands in no source.
    /// </summary>
    public static bool IsClosure(string type) => type.StartsWith("<>c", StringComparison.Ordinal);

    /// <summary>The name of a method as the source has it, with those that it stands in: <c>Outer.Inner</c>.</summary>
    public static string Method(string name) => Method(name, MaxNesting);

    private static string Method(string name, int depth)
    {
        if (name is ".ctor" or ".cctor")
        {
            return name[1..];
        }

        int end = ClosingBracket(name);
        if (end <= 1 || depth == 0)
        {
            return name;
        }

        ReadOnlySpan<char> kind = name.AsSpan(end + 1);
        string outer = Method(name[1..end], depth - 1);
        if (kind is "$")
        {
            return outer; // the entry point that top-level statements make
        }

        if (kind.StartsWith("b__", StringComparison.Ordinal))
        {
            return $"{outer}.{Lambda}";
        }

        if (kind.StartsWith("g__", StringComparison.Ordinal) && kind.IndexOf('|') is > 3 and var bar)
        {
            return $"{outer}.{kind[3..bar]}";
        }

        return name;
    }

    /// <summary>Where the bracket closes that a made-up name begins with; -1 for another name.</summary>
    private static int ClosingBracket(string name)
    {
        if (name.Length == 0 || name[0] != '<')
        {
            return -1;
        }

        int depth = 0;
        for (int i = 0; i < name.Length; i++)
        {
            depth += name[i] switch { '<' => 1, '>' => -1, _ => 0 };
            if (depth == 0)
            {
                return i;
            }
        }

        return -1;
    }
}
