using System.Collections.Immutable;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;

namespace NativeLeaks.Symbols.Managed;

/// <summary>
/// Follows the tokens in an assembly's IL to the methods that they mean, in that assembly or another, by files alone: the
/// runtime is not asked, because asking it can load what the program has not loaded. Caches; one caller at a time.
/// </summary>
/// <param name="assemblyNamed">The assembly of a simple name that the program uses; null when there is none.</param>
internal sealed class MethodReferences(Func<string, AssemblyFile?> assemblyNamed)
{
    private const int MaxForwards = 8;
    private const int MaxNesting = 64;

    private readonly Dictionary<(AssemblyFile, int), MethodKey?> _methods = [];
    private readonly Dictionary<MethodKey, IReadOnlyList<(IlCall Call, MethodKey? Target)>> _calls = [];

    /// <summary>The calls in a method's IL and what they call; empty without IL.</summary>
    public IReadOnlyList<(IlCall Call, MethodKey? Target)> CallsIn(MethodKey method)
    {
        if (!_calls.TryGetValue(method, out IReadOnlyList<(IlCall, MethodKey?)>? calls))
        {
            _calls[method] = calls = [.. IlCalls.List(method.Assembly.IlOf(method.Row)).Select(call => (call, Resolve(method.Assembly, call)))];
        }

        return calls;
    }

    private MethodKey? Resolve(AssemblyFile assembly, IlCall call)
    {
        if (call.Kind == IlCallKind.Indirect)
        {
            return null;
        }

        if (!_methods.TryGetValue((assembly, call.Token), out MethodKey? method))
        {
            try
            {
                method = Resolve(assembly, MetadataTokens.EntityHandle(call.Token));
            }
            catch (Exception e) when (AssemblyFile.IsDamage(e))
            {
                method = null;
            }

            _methods[(assembly, call.Token)] = method;
        }

        return method;
    }

    private MethodKey? Resolve(AssemblyFile assembly, EntityHandle handle)
    {
        MetadataReader metadata = assembly.Metadata!;
        switch (handle.Kind)
        {
            case HandleKind.MethodDefinition:
                return new MethodKey(assembly, MetadataTokens.GetRowNumber(handle));
            case HandleKind.MethodSpecification:
                return Resolve(assembly, metadata.GetMethodSpecification((MethodSpecificationHandle)handle).Method);
            case HandleKind.MemberReference:
                MemberReference member = metadata.GetMemberReference((MemberReferenceHandle)handle);
                if (member.GetKind() == MemberReferenceKind.Method && FindType(assembly, TypeOf(metadata, member.Parent), MaxNesting) is var (owner, type))
                {
                    return FindMethod(metadata, member, owner, type);
                }

                return null;
            default:
                return null;
        }
    }

    /// <summary>Of a generic type's instance, the definition: class or valuetype, coded index (ECMA-335 II.23.2.14).</summary>
    private static EntityHandle TypeOf(MetadataReader metadata, EntityHandle parent)
    {
        if (parent.Kind != HandleKind.TypeSpecification)
        {
            return parent;
        }

        BlobReader signature = metadata.GetBlobReader(metadata.GetTypeSpecification((TypeSpecificationHandle)parent).Signature);
        return signature.ReadSignatureTypeCode() == SignatureTypeCode.GenericTypeInstance && signature.ReadCompressedInteger() >= 0
            ? signature.ReadTypeHandle()
            : default;
    }

    private (AssemblyFile Owner, TypeDefinitionHandle Type)? FindType(AssemblyFile assembly, EntityHandle handle, int depth)
    {
        MetadataReader metadata = assembly.Metadata!;
        if (depth == 0 || handle.IsNil || handle.Kind is not (HandleKind.TypeDefinition or HandleKind.TypeReference))
        {
            return null;
        }

        if (handle.Kind == HandleKind.TypeDefinition)
        {
            return (assembly, (TypeDefinitionHandle)handle);
        }

        TypeReference reference = metadata.GetTypeReference((TypeReferenceHandle)handle);
        string name = metadata.GetString(reference.Name), space = metadata.GetString(reference.Namespace);
        switch (reference.ResolutionScope.Kind)
        {
            case HandleKind.TypeReference:
                return FindType(assembly, reference.ResolutionScope, depth - 1) is var (owner, outer) && owner.FindNestedType(outer, name) is { } nested
                    ? (owner, nested)
                    : null;
            case HandleKind.AssemblyReference:
                AssemblyReference target = metadata.GetAssemblyReference((AssemblyReferenceHandle)reference.ResolutionScope);
                return FindExported(assemblyNamed(metadata.GetString(target.Name)), space, name, MaxForwards);
            default:
                return null;
        }
    }

    private (AssemblyFile Owner, TypeDefinitionHandle Type)? FindExported(AssemblyFile? assembly, string space, string name, int forwards)
    {
        if (assembly?.Metadata is null || forwards == 0)
        {
            return null;
        }

        return assembly.FindType(space, name) is { } type
            ? (assembly, type)
            : assembly.ForwardedTo(space, name) is { } target
                ? FindExported(assemblyNamed(target), space, name, forwards - 1)
                : null;
    }

    private static MethodKey? FindMethod(MetadataReader from, MemberReference member, AssemblyFile owner, TypeDefinitionHandle type)
    {
        MetadataReader metadata = owner.Metadata!;
        string name = from.GetString(member.Name);
        List<MethodDefinitionHandle> named =
        [
            .. metadata.GetTypeDefinition(type).GetMethods().Where(m => metadata.StringComparer.Equals(metadata.GetMethodDefinition(m).Name, name)),
        ];
        if (named.Count > 1)
        {
            // Tokens differ from file to file, so overloads are told apart by how their types read.
            ImmutableArray<string> wanted = SignatureTypeNames.ParametersOf(from, member.Signature, default);
            named.RemoveAll(m => !SignatureTypeNames.ParametersOf(metadata, metadata.GetMethodDefinition(m).Signature, default).SequenceEqual(wanted));
        }

        return named is [var only] ? new MethodKey(owner, MetadataTokens.GetRowNumber(only)) : null;
    }
}
