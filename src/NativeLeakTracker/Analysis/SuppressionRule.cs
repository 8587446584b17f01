namespace NativeLeaks.Analysis;

/// <summary>A rule that hides leaks: <c>leak:pattern</c>.</summary>
/// <param name="Text">As it was written.</param>
/// <param name="Origin">Where it stands: <c>options</c>, file and line, or <c>built in</c> with the reason.</param>
/// <param name="Pattern">What it fits.</param>
internal sealed record SuppressionRule(string Text, string Origin, Pattern Pattern)
{
    private const string Prefix = "leak:";

    // One file may serve several sanitizers: these are the words of the others (compiler-rt: tsan_suppressions.cpp,
    // asan_suppressions.cpp, ubsan_checks.inc). Any other word is a typing error, and would hide nothing without a word.
    private static readonly HashSet<string> s_otherTools = new(StringComparer.Ordinal)
    {
        "race", "race_top", "thread", "mutex", "signal", "deadlock", "called_from_lib",
        "interceptor_name", "interceptor_via_fun", "interceptor_via_lib", "odr_violation",
        "undefined", "null", "alignment", "bool", "bounds", "builtin", "enum", "float-cast-overflow", "float-divide-by-zero",
        "function", "implicit-bitfield-conversion", "implicit-integer-sign-change", "implicit-signed-integer-truncation",
        "implicit-unsigned-integer-truncation", "integer-divide-by-zero", "nonnull-attribute", "nullability-arg",
        "nullability-assign", "nullability-return", "object-size", "pointer-overflow", "return", "returns-nonnull-attribute",
        "shift", "shift-base", "shift-exponent", "signed-integer-overflow", "unreachable", "unsigned-integer-overflow",
        "vla-bound", "vptr",
    };

    /// <summary>Reads a line; null for a comment, an empty line, and another sanitizer's rule.</summary>
    /// <exception cref="FormatException">It is none of them; the message says what to write.</exception>
    public static SuppressionRule? Parse(string line, string origin)
    {
        string text = line.Trim();
        if (text.Length == 0 || text[0] == '#')
        {
            return null;
        }

        if (text.StartsWith(Prefix, StringComparison.Ordinal))
        {
            return new SuppressionRule(text, origin, new Pattern(text[Prefix.Length..]));
        }

        int colon = text.IndexOf(':', StringComparison.Ordinal);
        return colon > 0 && s_otherTools.Contains(text[..colon])
            ? null
            : throw new FormatException("This is no rule. Write leak:PATTERN, or # before a comment.");
    }

    /// <summary>Whether any name of the frame fits.</summary>
    public bool Fits(LeakFrame frame) =>
        Pattern.Matches(frame.Method) || Pattern.Matches(frame.Symbol) || Pattern.Matches(frame.Module) || Pattern.Matches(frame.File);
}
