using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;

namespace NativeLeaks.Symbols.Managed;

/// <summary>A method in an assembly's file, whatever its generic arguments.</summary>
internal readonly record struct MethodKey(AssemblyFile Assembly, int Row)
{
    public int Token => 0x06000000 | Row;

    private MetadataReader Metadata => Assembly.Metadata!;

    public MethodDefinition Definition => Metadata.GetMethodDefinition(MetadataTokens.MethodDefinitionHandle(Row));

    public string Name => Metadata.GetString(Definition.Name);

    /// <summary>Declared to be native code: a P/Invoke.</summary>
    public bool IsImport => (Definition.Attributes & MethodAttributes.PinvokeImpl) != 0;

    public bool IsNeverInlined => (Definition.ImplAttributes & MethodImplAttributes.NoInlining) != 0;

    /// <summary>Another method may run in its place.</summary>
    public bool MayBeOverridden =>
        (Definition.Attributes & (MethodAttributes.Virtual | MethodAttributes.Final)) == MethodAttributes.Virtual &&
        (Metadata.GetTypeDefinition(Definition.GetDeclaringType()).Attributes & TypeAttributes.Sealed) == 0;

    /// <summary>The call of a delegate: any method may run in its place.</summary>
    public bool IsDelegateCall
    {
        get
        {
            TypeDefinition type = Metadata.GetTypeDefinition(Definition.GetDeclaringType());
            return Metadata.StringComparer.Equals(Definition.Name, "Invoke") &&
                type.BaseType.Kind == HandleKind.TypeReference &&
                Metadata.StringComparer.Equals(Metadata.GetTypeReference((TypeReferenceHandle)type.BaseType).Name, "MulticastDelegate");
        }
    }

    /// <summary>The exported name that a P/Invoke asks for, and the library.</summary>
    public (string EntryPoint, string Library) Import
    {
        get
        {
            MethodImport import = Definition.GetImport();
            string name = import.Name.IsNil ? Name : Metadata.GetString(import.Name);
            return (name, import.Module.IsNil ? "" : Metadata.GetString(Metadata.GetModuleReference(import.Module).Name));
        }
    }
}
