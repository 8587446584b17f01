using System.Text;

namespace NativeLeaks.Attach;

/// <summary>A type as it was read: <c>Ns.Outer`1+Inner`1</c>, the arguments of all its levels, and what it is made into.</summary>
/// <param name="Name">Namespace and nested names, with the runtime's own marks.</param>
/// <param name="Arguments">Of all levels, outermost first.</param>
/// <param name="Suffix"><c>[]</c>, <c>*</c>, <c>&amp;</c> and the like.</param>
internal sealed record TypeName(string Name, IReadOnlyList<TypeName> Arguments, string Suffix)
{
    /// <summary>With its namespace and the types around it; each has its own arguments.</summary>
    public string Full()
    {
        var text = new StringBuilder();
        int used = 0;
        string[] levels = Name.Split('+');
        for (int i = 0; i < levels.Length; i++)
        {
            text.Append(i == 0 ? "" : ".");
            int own = AppendLevel(text, levels[i]);
            int last = i == levels.Length - 1 ? Arguments.Count : Math.Min(used + own, Arguments.Count);
            AppendArguments(text, used, last);
            used = last;
        }

        return text.Append(Suffix).ToString();
    }

    /// <summary>Its own name alone.</summary>
    public string Short()
    {
        string level = Name[(Name.LastIndexOf('+') + 1)..];
        var text = new StringBuilder();

        // Arguments of the types around it are not its own; where the runtime left out the marks, they cannot be told apart.
        bool isGeneric = AppendLevel(text, AfterNamespace(level)) > 0 || !Name.Contains('`', StringComparison.Ordinal);
        if (isGeneric)
        {
            AppendArguments(text, 0, Arguments.Count);
        }

        return text.Append(Suffix).ToString();
    }

    // A compiler's name may have dots between its angle brackets.
    private static string AfterNamespace(string level)
    {
        int depth = 0;
        for (int i = level.Length - 1; i >= 0; i--)
        {
            depth += level[i] switch { '>' => 1, '<' => -1, _ => 0 };
            if (level[i] == '.' && depth == 0)
            {
                return level[(i + 1)..];
            }
        }

        return level;
    }

    /// <summary>Returns how many arguments its mark says that it has.</summary>
    private static int AppendLevel(StringBuilder text, string level)
    {
        int tick = level.LastIndexOf('`');
        bool isMarked = tick >= 0 && int.TryParse(level.AsSpan(tick + 1), out _);
        text.Append(isMarked ? level[..tick] : level);
        return isMarked ? Math.Clamp(int.Parse(level.AsSpan(tick + 1), System.Globalization.CultureInfo.InvariantCulture), 0, 100) : 0;
    }

    private void AppendArguments(StringBuilder text, int first, int last)
    {
        if (first < last)
        {
            text.Append('<').AppendJoin(", ", Arguments.Skip(first).Take(last - first).Select(static a => a.Short())).Append('>');
        }
    }
}
