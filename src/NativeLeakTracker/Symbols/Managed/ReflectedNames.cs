using System.Reflection;
using System.Text;

namespace NativeLeaks.Symbols.Managed;

/// <summary>Names of methods that are loaded in this process, with the generic arguments that they run with.</summary>
internal static class ReflectedNames
{
    private const BindingFlags Declared =
        BindingFlags.DeclaredOnly | BindingFlags.Instance | BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic;

    public static MethodName Describe(MethodBase method)
    {
        var writer = new MethodNameWriter
        {
            Method = method.Name,
            MethodArguments = method is MethodInfo { IsGenericMethod: true } ? Arguments(method.GetGenericArguments()) : "",
            Parameters = Parameters(method),
        };
        if (method.DeclaringType is { } type)
        {
            AddTypes(writer, type);
            writer.ParametersOfOuter = name => ParametersOfOuter(type, name);
        }

        return writer.Write();
    }

    /// <summary>A parameter's type as a list of them shows it: <c>List&lt;String&gt;[]</c>.</summary>
    public static string ShortName(Type type)
    {
        if (type.HasElementType)
        {
            string suffix = type.IsArray ? "[" + new string(',', type.GetArrayRank() - 1) + "]" : type.IsPointer ? "*" : "&";
            return ShortName(type.GetElementType()!) + suffix;
        }

        if (type.IsFunctionPointer)
        {
            return "delegate*";
        }

        string name = MethodNameWriter.WithoutTick(type.Name);
        return type.IsGenericType && type.Name.Contains('`', StringComparison.Ordinal) ? name + Arguments(type.GetGenericArguments()) : name;
    }

    // The arguments of a nested generic type are those of its outer types too; they are shown where the name has a tick.
    private static void AddTypes(MethodNameWriter writer, Type type)
    {
        if (type.DeclaringType is { } outer)
        {
            AddTypes(writer, outer);
        }
        else
        {
            writer.Namespace = type.Namespace ?? "";
        }

        bool isGeneric = type.IsGenericType && type.Name.Contains('`', StringComparison.Ordinal);
        writer.AddType(type.Name, isGeneric ? Arguments(type.GetGenericArguments()) : "");
    }

    private static string Arguments(Type[] arguments) => $"<{string.Join(", ", arguments.Select(ShortName))}>";

    /// <summary>Parameter types whose assemblies cannot be loaded leave the list empty rather than the method unnamed.</summary>
    private static string Parameters(MethodBase method)
    {
        var text = new StringBuilder("(");
        try
        {
            text.AppendJoin(", ", method.GetParameters().Select(static p => ShortName(p.ParameterType)).Where(static t => !SourceNames.IsClosure(t)));
        }
        catch (Exception e) when (e is TypeLoadException or FileNotFoundException or FileLoadException
                                      or BadImageFormatException)
        {
            text.Length = 1;
        }

        return text.Append(')').ToString();
    }

    private static string? ParametersOfOuter(Type stateMachine, string name)
    {
        try
        {
            MethodBase[] methods = stateMachine.DeclaringType is { } outer
                ? [.. outer.GetMember(name, MemberTypes.Method, Declared).OfType<MethodBase>()]
                : [];
            if (methods.Length > 1)
            {
                Type definition = stateMachine.IsGenericType ? stateMachine.GetGenericTypeDefinition() : stateMachine;
                methods = Array.FindAll(
                    methods,
                    method => method.GetCustomAttribute<System.Runtime.CompilerServices.StateMachineAttribute>()?.StateMachineType == definition);
            }

            return methods is [var only] ? Parameters(only) : null;
        }
        catch (Exception e) when (e is TypeLoadException or FileNotFoundException or FileLoadException
                                      or BadImageFormatException or NotSupportedException or AmbiguousMatchException)
        {
            return null;
        }
    }
}
