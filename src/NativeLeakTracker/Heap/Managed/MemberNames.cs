using System.Text.RegularExpressions;

namespace NativeLeaks.Heap.Managed;

/// <summary>What the compiler made of a name, turned back into what stands in the source.</summary>
internal static partial class MemberNames
{
    /// <summary>A field, or with dots a field of a structure in a field.</summary>
    public static string OfField(string name) =>
        name.Contains('<', StringComparison.Ordinal) || name.Contains('$', StringComparison.Ordinal)
            ? string.Join('.', name.Split('.').Select(OfPart))
            : name;

    /// <summary>The closure of a lambda: <c>Outer+&lt;&gt;c__DisplayClass3_0</c>.</summary>
    public static bool IsClosure(string type) => type.Contains("+<>c__DisplayClass", StringComparison.Ordinal);

    /// <summary>A field that leads from one closure to that around it.</summary>
    public static bool IsOuterClosure(string field) => field.StartsWith("CS$<>8__locals", StringComparison.Ordinal);

    /// <summary>The method that a closure belongs to, from the names of its lambdas: <c>&lt;Method&gt;b__0</c>. Null: there is none.</summary>
    public static string? MethodOfClosure(IEnumerable<string> methods) =>
        methods.Select(static m => Lambda().Match(m)).FirstOrDefault(static m => m.Success)?.Groups[1].Value;

    /// <summary>The type around a nested one, as the runtime spells it.</summary>
    public static string OuterOf(string type) => type.LastIndexOf('+') is > 0 and var end ? type[..end] : type;

    /// <summary>
    /// The type and method of an async method or iterator, from the type that keeps its local variables, or from what the runtime puts
    /// around that: <c>Outer+&lt;Method&gt;d__5</c>. Null: it is something else.
    /// </summary>
    public static (string Type, string Method)? OfStateMachine(string type) =>
        StateMachine().Match(type) is { Success: true } match ? (match.Groups[1].Value, match.Groups[2].Value) : null;

    // <Name>k__BackingField, <local>5__2, <>4__this, <>3__parameter, <>7__wrap1, <>u__1.
    private static string OfPart(string name) =>
        name.StartsWith("<>4__this", StringComparison.Ordinal) ? "this"
        : name.StartsWith("<>3__", StringComparison.Ordinal) ? name["<>3__".Length..]
        : name.StartsWith("<>u__", StringComparison.Ordinal) ? "awaiter"
        : name.StartsWith("<>2__current", StringComparison.Ordinal) ? "Current"
        : name.StartsWith('<') && name.IndexOf('>', StringComparison.Ordinal) is > 1 and var end ? name[1..end]
        : name;

    [GeneratedRegex(@"<([^<>]+)>b__")]
    private static partial Regex Lambda();

    [GeneratedRegex(@"([\w.]*)\+<([^<>]+)>d__\d+")]
    private static partial Regex StateMachine();
}
