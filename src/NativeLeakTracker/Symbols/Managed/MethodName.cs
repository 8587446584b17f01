using System.Text;

namespace NativeLeaks.Symbols.Managed;

/// <summary>A managed method's two names.</summary>
/// <param name="Text">As the source has it: <c>Store.SaveAsync(String)</c>.</param>
/// <param name="Symbol">As the assembly has it, where that reads otherwise: <c>Store.&lt;SaveAsync&gt;d__3.MoveNext()</c>;
/// else null.</param>
internal readonly record struct MethodName(string Text, string? Symbol);

/// <summary>
/// Puts the name of a method together from its parts, whoever tells them: reflection for code of this process, metadata for
/// all other.
/// </summary>
internal sealed class MethodNameWriter
{
    private readonly List<(string Name, string Arguments)> _types = [];

    /// <summary>Namespace of the outermost type; empty for none.</summary>
    public string Namespace { get; set; } = "";

    /// <summary>Name of the method as the assembly has it.</summary>
    public string Method { get; set; } = "";

    /// <summary>Its generic arguments, <c>&lt;Int32&gt;</c>; empty for none.</summary>
    public string MethodArguments { get; set; } = "";

    /// <summary>Its parameter types, <c>(Int32, String)</c>.</summary>
    public string Parameters { get; set; } = "()";

    /// <summary>
    /// Parameter types of the method whose body a state machine holds, asked for with its name when they are needed; null when
    /// they are not known.
    /// </summary>
    public Func<string, string?>? ParametersOfOuter { get; set; }

    /// <summary>Adds a type, from the outermost to the innermost.</summary>
    /// <param name="name">As the assembly has it; the number of generic parameters behind a tick is left out.</param>
    /// <param name="arguments">Generic arguments that are shown behind it, or empty.</param>
    public void AddType(string name, string arguments) => _types.Add((name, arguments));

    public MethodName Write()
    {
        string symbol = Symbol();
        string text = Text();
        return new MethodName(text, text == symbol ? null : symbol);
    }

    private string Symbol()
    {
        StringBuilder text = Begin(_types.Count);
        return text.Append(Method is ".ctor" or ".cctor" ? Method[1..] : Method).Append(MethodArguments).Append(Parameters).ToString();
    }

    private string Text()
    {
        string method = Method, parameters = Parameters, arguments = MethodArguments;
        int types = _types.Count;
        if (types > 1 && method == "MoveNext" && SourceNames.MethodOfStateMachine(_types[types - 1].Name) is { } outer)
        {
            types--;
            arguments = _types[types].Arguments;
            method = outer;
            parameters = ParametersOfOuter?.Invoke(outer) ?? "";
        }

        while (types > 1 && SourceNames.IsClosure(_types[types - 1].Name))
        {
            types--;
        }

        return Begin(types).Append(SourceNames.Method(method)).Append(arguments).Append(parameters).ToString();
    }

    private StringBuilder Begin(int types)
    {
        var text = new StringBuilder();
        if (Namespace.Length > 0)
        {
            text.Append(Namespace).Append('.');
        }

        for (int i = 0; i < types; i++)
        {
            text.Append(WithoutTick(_types[i].Name)).Append(_types[i].Arguments).Append('.');
        }

        return text;
    }

    public static string WithoutTick(string name)
    {
        int tick = name.LastIndexOf('`');
        return tick < 0 ? name : name[..tick];
    }
}
