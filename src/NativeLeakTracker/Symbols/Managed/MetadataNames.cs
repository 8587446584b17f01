using System.Collections.Immutable;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;

namespace NativeLeaks.Symbols.Managed;

/// <summary>
/// Names of methods from metadata alone, for code whose runtime cannot be asked: of another process, of a dead one, or of an
/// assembly that may be unloaded. Generic methods read as they are declared: <c>Pool&lt;T&gt;.Rent(Int32)</c>.
/// </summary>
internal static class MetadataNames
{
    private const int MaxNesting = 64;

    /// <summary>Null when the token names no method.</summary>
    public static MethodName? Describe(MetadataReader metadata, int token)
    {
        try
        {
            int row = token & 0xffffff;
            if (row == 0 || row > metadata.GetTableRowCount(TableIndex.MethodDef))
            {
                return null;
            }

            MethodDefinition method = metadata.GetMethodDefinition(MetadataTokens.MethodDefinitionHandle(row));
            var writer = new MethodNameWriter
            {
                Method = metadata.GetString(method.Name),
                MethodArguments = Arguments(metadata, method.GetGenericParameters(), 0),
                Parameters = Parameters(metadata, method),
                ParametersOfOuter = name => ParametersOfOuter(metadata, method.GetDeclaringType(), name),
            };
            AddTypes(metadata, method.GetDeclaringType(), writer, MaxNesting);
            return writer.Write();
        }
        catch (Exception e) when (AssemblyFile.IsDamage(e))
        {
            return null;
        }
    }

    private static int AddTypes(MetadataReader metadata, TypeDefinitionHandle handle, MethodNameWriter writer, int depth)
    {
        TypeDefinition type = metadata.GetTypeDefinition(handle);
        int outerParameters = 0;
        if (type.GetDeclaringType() is { IsNil: false } outer && depth > 0)
        {
            outerParameters = AddTypes(metadata, outer, writer, depth - 1);
        }
        else
        {
            writer.Namespace = metadata.GetString(type.Namespace);
        }

        // Nested types repeat the parameters of their outer ones, as reflection shows them where the name has a tick.
        GenericParameterHandleCollection parameters = type.GetGenericParameters();
        string name = metadata.GetString(type.Name);
        writer.AddType(name, parameters.Count > outerParameters ? Arguments(metadata, parameters, 0) : "");
        return parameters.Count;
    }

    private static string Arguments(MetadataReader metadata, GenericParameterHandleCollection parameters, int from) =>
        parameters.Count <= from
            ? ""
            : $"<{string.Join(", ", parameters.Skip(from).Select(p => metadata.GetString(metadata.GetGenericParameter(p).Name)))}>";

    private static string Parameters(MetadataReader metadata, MethodDefinition method)
    {
        TypeDefinition type = metadata.GetTypeDefinition(method.GetDeclaringType());
        ImmutableArray<string> types = SignatureTypeNames.ParametersOf(
            metadata, method.Signature, new GenericNames(type.GetGenericParameters(), method.GetGenericParameters()));
        return $"({string.Join(", ", types.Where(static t => !SourceNames.IsClosure(t)))})";
    }

    private static string? ParametersOfOuter(MetadataReader metadata, TypeDefinitionHandle stateMachine, string name)
    {
        TypeDefinitionHandle outer = metadata.GetTypeDefinition(stateMachine).GetDeclaringType();
        if (outer.IsNil)
        {
            return null;
        }

        MethodDefinition[] methods =
        [
            .. metadata.GetTypeDefinition(outer).GetMethods().Select(metadata.GetMethodDefinition)
                .Where(method => metadata.StringComparer.Equals(method.Name, name)),
        ];
        if (methods.Length > 1)
        {
            methods = Array.FindAll(methods, method => NamesStateMachine(metadata, method, stateMachine));
        }

        return methods is [var only] ? Parameters(metadata, only) : null;
    }

    /// <summary>AsyncStateMachine("Outer+&lt;Name&gt;d__3") and its likes: the one fixed argument is the type's name.</summary>
    private static bool NamesStateMachine(MetadataReader metadata, MethodDefinition method, TypeDefinitionHandle stateMachine)
    {
        string nested = "+" + metadata.GetString(metadata.GetTypeDefinition(stateMachine).Name);
        foreach (CustomAttributeHandle handle in method.GetCustomAttributes())
        {
            BlobReader value = metadata.GetBlobReader(metadata.GetCustomAttribute(handle).Value);
            if (value.Length > 4 && value.ReadUInt16() == 1 && value.RemainingBytes > 0 && value.ReadSerializedString() is { } text &&
                (text.EndsWith(nested, StringComparison.Ordinal) || text.Contains(nested + ",", StringComparison.Ordinal)))
            {
                return true;
            }
        }

        return false;
    }
}
