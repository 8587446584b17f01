namespace NativeLeaks.Attach;

/// <summary>
/// Methods as the runtime spells them, in the way that the library shows them:
/// <c>Namespace.Outer.Inner&lt;T&gt;.Method&lt;U&gt;(Int32, String[], Byte&amp;)</c>.
/// </summary>
internal static class RuntimeNames
{
    // The compiler's own names are some hundred characters long; one that is far longer is not worth its memory.
    private const int MaxLength = 4096;

    /// <summary>
    /// The DAC: <c>Ns.Outer`1+Inner[[A, Assembly]].Method[[B, Assembly]](Int32, System.String[], Byte ByRef)</c>.
    /// </summary>
    /// <param name="signature">All of it.</param>
    /// <param name="name">The method's part of it: a method's own name may have dots and brackets.</param>
    public static string FromDac(string signature, string name)
    {
        int place = signature.LastIndexOf($".{name}(", StringComparison.Ordinal);
        if (signature.Length > MaxLength || place < 0 || name.Length == 0)
        {
            return Shorten(signature);
        }

        var type = new TypeText(signature[..place], []);
        string declaring = type.ReadType() is { } read && type.IsAtEnd ? read.Full() : signature[..place];
        int arguments = name.IndexOf("[[", StringComparison.Ordinal);
        string method = arguments < 0 ? name : name[..arguments] + MethodArguments(name[arguments..]);
        return $"{declaring}.{WithoutDot(method)}{Parameters(signature[(place + name.Length + 1)..], [])}";
    }

    /// <summary>Events: type <c>Ns.Outer`1+Inner[A]</c>, name <c>Method</c>, signature <c>instance generic void  (int32,class Ns.X[],!0,!!0)</c>.</summary>
    public static string FromEvent(string type, string name, string signature)
    {
        if (type.Length + name.Length + signature.Length > MaxLength)
        {
            return Shorten($"{type}.{name}");
        }

        var text = new TypeText(type, []);
        TypeName? read = text.ReadType();
        bool isRead = read is not null && text.IsAtEnd;
        string declaring = isRead ? read!.Full() : type;

        // What the method's own type arguments are, or how many, is not told.
        int parameters = signature.IndexOf("  (", StringComparison.Ordinal);
        string before = parameters < 0 ? "" : signature[..parameters];
        string generic = before.Split(' ').Contains("generic") ? "<?>" : "";
        string owner = declaring.Length > 0 ? declaring + "." : "";
        return $"{owner}{WithoutDot(name)}{generic}" +
               (parameters < 0 ? "" : Parameters(signature[(parameters + 2)..], isRead ? read!.Arguments : []));
    }

    private static string WithoutDot(string name) => name is ".ctor" or ".cctor" ? name[1..] : name;

    private static string Shorten(string text) => text.Length <= MaxLength ? text : text[..MaxLength] + "...";

    private static string MethodArguments(string text)
    {
        var reader = new TypeText(text, []);
        List<TypeName>? arguments = reader.ReadQualifiedArguments();
        return arguments is not null && reader.IsAtEnd ? $"<{string.Join(", ", arguments.Select(static a => a.Short()))}>" : "<?>";
    }

    // "(A, B)"; what is not understood is shown as it stands.
    private static string Parameters(string text, IReadOnlyList<TypeName> typeArguments)
    {
        var reader = new TypeText(text, typeArguments);
        List<TypeName>? parameters = reader.ReadParameters();
        return parameters is null ? text : $"({string.Join(", ", parameters.Select(static p => p.Short()))})";
    }
}
