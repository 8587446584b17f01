using System.Collections.Immutable;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;

namespace NativeLeaks.Symbols.Managed;

/// <summary>The generic parameters that a signature may name; without them they read by their number.</summary>
internal readonly record struct GenericNames(GenericParameterHandleCollection OfType, GenericParameterHandleCollection OfMethod);

/// <summary>Types as a list of parameters shows them.</summary>
internal sealed class SignatureTypeNames(MetadataReader metadata) : ISignatureTypeProvider<string, GenericNames>
{
    // The decoder calls itself for each type inside a type, and a hostile signature has as many as it has bytes.
    private const int MaxSignatureBytes = 2048;

    /// <summary>Parameter types of a method's signature.</summary>
    /// <exception cref="BadImageFormatException">It is damaged, or longer than any that a compiler makes.</exception>
    public static ImmutableArray<string> ParametersOf(MetadataReader metadata, BlobHandle signature, GenericNames names)
    {
        BlobReader reader = metadata.GetBlobReader(signature);
        return reader.Length <= MaxSignatureBytes
            ? new SignatureDecoder<string, GenericNames>(new SignatureTypeNames(metadata), metadata, names).DecodeMethodSignature(ref reader).ParameterTypes
            : throw new BadImageFormatException($"A signature has {reader.Length} bytes.");
    }

    public string GetPrimitiveType(PrimitiveTypeCode typeCode) => typeCode.ToString();

    public string GetTypeFromDefinition(MetadataReader reader, TypeDefinitionHandle handle, byte rawTypeKind) =>
        MethodNameWriter.WithoutTick(reader.GetString(reader.GetTypeDefinition(handle).Name));

    public string GetTypeFromReference(MetadataReader reader, TypeReferenceHandle handle, byte rawTypeKind) =>
        MethodNameWriter.WithoutTick(reader.GetString(reader.GetTypeReference(handle).Name));

    public string GetTypeFromSpecification(MetadataReader reader, GenericNames context, TypeSpecificationHandle handle, byte rawTypeKind) =>
        "?";

    public string GetSZArrayType(string elementType) => elementType + "[]";

    public string GetArrayType(string elementType, ArrayShape shape) => $"{elementType}[{new string(',', Math.Clamp(shape.Rank - 1, 0, 31))}]";

    public string GetByReferenceType(string elementType) => elementType + "&";

    public string GetPointerType(string elementType) => elementType + "*";

    public string GetPinnedType(string elementType) => elementType;

    public string GetModifiedType(string modifier, string unmodifiedType, bool isRequired) => unmodifiedType;

    public string GetFunctionPointerType(MethodSignature<string> signature) => "delegate*";

    public string GetGenericInstantiation(string genericType, ImmutableArray<string> typeArguments) =>
        $"{genericType}<{string.Join(", ", typeArguments)}>";

    public string GetGenericTypeParameter(GenericNames context, int index) => Name(context.OfType, index);

    public string GetGenericMethodParameter(GenericNames context, int index) => Name(context.OfMethod, index);

    private string Name(GenericParameterHandleCollection parameters, int index) =>
        index >= 0 && index < parameters.Count ? metadata.GetString(metadata.GetGenericParameter(parameters[index]).Name) : $"!{index}";
}
