using NativeLeaks.Attach;

namespace NativeLeaks.RuntimeReader;

/// <summary>Types as ClrMD spells them, in the way that C# is written.</summary>
internal static class TypeTexts
{
    // The compiler's own names are some hundred characters long; one that is far longer is not worth its memory.
    private const int MaxLength = 4096;

    private static readonly Dictionary<string, string> s_keywords = new(StringComparer.Ordinal)
    {
        ["System.Boolean"] = "bool", ["System.Char"] = "char", ["System.SByte"] = "sbyte", ["System.Byte"] = "byte",
        ["System.Int16"] = "short", ["System.UInt16"] = "ushort", ["System.Int32"] = "int", ["System.UInt32"] = "uint",
        ["System.Int64"] = "long", ["System.UInt64"] = "ulong", ["System.Single"] = "float", ["System.Double"] = "double",
        ["System.Decimal"] = "decimal", ["System.String"] = "string", ["System.Object"] = "object", ["System.Void"] = "void",
    };

    /// <summary>Its own name alone, without the types around it.</summary>
    public static string Short(string? name) => Write(name, static type => type.Short());

    /// <summary>With its namespace and the types around it.</summary>
    public static string Full(string? name) => Write(name, static type => type.Full());

    private static string Write(string? name, Func<TypeName, string> write)
    {
        if (string.IsNullOrEmpty(name))
        {
            return "?";
        }

        if (name.Length > MaxLength)
        {
            return name[..MaxLength] + "...";
        }

        var text = new TypeText(name, []);
        return text.ReadType() is { } type && text.IsAtEnd ? write(WithKeywords(type)) : name;
    }

    private static TypeName WithKeywords(TypeName type) => type with
    {
        Name = s_keywords.GetValueOrDefault(type.Name, type.Name),
        Arguments = [.. type.Arguments.Select(WithKeywords)],
    };
}
