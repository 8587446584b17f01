using System.Collections.Immutable;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;
using System.Reflection.PortableExecutable;
using NativeLeaks.Files;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Symbols.Managed;

/// <summary>
/// An assembly's file, or the metadata of one that has no file, read without loading it. Files are hostile: whatever is
/// damaged is as if it were not there. One caller at a time.
/// </summary>
internal sealed class AssemblyFile : IDisposable
{
    private const long MaxFileBytes = 1L << 30;

    private readonly PEReader? _file;
    private readonly Stream? _stream;
    private readonly ImmutableArray<byte> _copy;
    private MetadataReaderProvider? _provider;
    private MethodLines? _lines;
    private ReadyToRunMap? _map;
    private Dictionary<(string Space, string Name), TypeDefinitionHandle>? _types;

    private AssemblyFile(string? path, PEReader? file, Stream? stream, ImmutableArray<byte> copy)
    {
        Path = path;
        _file = file;
        _stream = stream;
        _copy = copy;
    }

    /// <summary>The file; null for an assembly that has none.</summary>
    public string? Path { get; }

    /// <summary>Its metadata; null when it cannot be read.</summary>
    public MetadataReader? Metadata { get; private set; }

    /// <summary>
    /// Opens a file. Null when it is no assembly, cannot be read, or is another version than the one that ran, if its MVID is
    /// known: a token would name another method there.
    /// </summary>
    public static AssemblyFile? Open(string path, Guid? mvid)
    {
        FileStream? stream = OpenFile(path);
        if (stream is null)
        {
            return null;
        }

        AssemblyFile? assembly = null;
        try
        {
            assembly = new AssemblyFile(path, new PEReader(stream), stream, default);
            if (assembly._file!.HasMetadata)
            {
                assembly.Metadata = assembly._file.GetMetadataReader();
            }

            if (assembly.Metadata is { } metadata && (mvid is null || MvidOf(metadata) == mvid))
            {
                return assembly;
            }
        }
        catch (Exception e) when (IsDamage(e))
        {
            // Closed below.
        }

        assembly?.Dispose();
        stream.Dispose();
        return null;
    }

    /// <summary>Over metadata that was copied while the assembly was loaded; null when it is damaged.</summary>
    public static AssemblyFile? FromMetadata(ReadOnlySpan<byte> metadata)
    {
        var assembly = new AssemblyFile(null, null, null, [.. metadata]);
        try
        {
            assembly._provider = MetadataReaderProvider.FromMetadataImage(assembly._copy);
            assembly.Metadata = assembly._provider.GetMetadataReader();
            return assembly;
        }
        catch (Exception e) when (IsDamage(e))
        {
            assembly.Dispose();
            return null;
        }
    }

    /// <summary>Lines of its methods, from its PDB; empty without one.</summary>
    public MethodLines Lines(SymbolSettings settings) =>
        _lines ??= _file is null || Path is null ? MethodLines.None : MethodLines.Open(Path, _file, settings);

    /// <summary>The IL of a method; empty where there is none, or only metadata was copied.</summary>
    public ReadOnlySpan<byte> IlOf(int row)
    {
        try
        {
            MethodDefinition method = Metadata!.GetMethodDefinition(MetadataTokens.MethodDefinitionHandle(row));
            return _file is null || method.RelativeVirtualAddress == 0
                ? default
                : _file.GetMethodBody(method.RelativeVirtualAddress).GetILBytes();
        }
        catch (Exception e) when (IsDamage(e))
        {
            return default;
        }
    }

    /// <summary>A type that is defined here and not nested; null when there is none of that name.</summary>
    public TypeDefinitionHandle? FindType(string space, string name)
    {
        if (_types is null)
        {
            _types = [];
            foreach (TypeDefinitionHandle handle in Metadata!.TypeDefinitions)
            {
                TypeDefinition type = Metadata.GetTypeDefinition(handle);
                if (!type.IsNested)
                {
                    _types[(Metadata.GetString(type.Namespace), Metadata.GetString(type.Name))] = handle;
                }
            }
        }

        return _types.TryGetValue((space, name), out TypeDefinitionHandle found) ? found : null;
    }

    public TypeDefinitionHandle? FindNestedType(TypeDefinitionHandle outer, string name)
    {
        foreach (TypeDefinitionHandle handle in Metadata!.GetTypeDefinition(outer).GetNestedTypes())
        {
            if (Metadata.StringComparer.Equals(Metadata.GetTypeDefinition(handle).Name, name))
            {
                return handle;
            }
        }

        return null;
    }

    /// <summary>The assembly that a type was moved to; null when it was not.</summary>
    public string? ForwardedTo(string space, string name)
    {
        foreach (ExportedTypeHandle handle in Metadata!.ExportedTypes)
        {
            ExportedType type = Metadata.GetExportedType(handle);
            if (type.Implementation.Kind == HandleKind.AssemblyReference && Metadata.StringComparer.Equals(type.Name, name) &&
                Metadata.StringComparer.Equals(type.Namespace, space))
            {
                return Metadata.GetString(Metadata.GetAssemblyReference((AssemblyReferenceHandle)type.Implementation).Name);
            }
        }

        return null;
    }

    /// <summary>The native to IL map of a precompiled body; empty when the file has none.</summary>
    public ReadOnlySpan<byte> IlMapOf(uint rva)
    {
        _map ??= ReadyToRunMap.Open(_file);
        return _map.Find(rva);
    }

    public void Dispose()
    {
        _lines?.Dispose();
        _provider?.Dispose();
        _file?.Dispose();
        _stream?.Dispose();
    }

    /// <summary>What a reader throws at damaged input, and what opening a file may.</summary>
    internal static bool IsDamage(Exception e) =>
        e is BadImageFormatException or IOException or UnauthorizedAccessException or ArgumentException or InvalidOperationException
            or OverflowException or NotSupportedException or InvalidDataException or IndexOutOfRangeException or InvalidCastException
            or OutOfMemoryException;

    /// <summary>A regular file to be read, if it is not larger than any assembly; null for all else.</summary>
    internal static FileStream? OpenFile(string path)
    {
        RegularFile? file = RegularFile.TryOpen(path);
        if (file is { LengthBytes: <= MaxFileBytes })
        {
            return file.ToStream();
        }

        file?.Dispose();
        return null;
    }

    private static Guid MvidOf(MetadataReader metadata) => metadata.GetGuid(metadata.GetModuleDefinition().Mvid);
}
