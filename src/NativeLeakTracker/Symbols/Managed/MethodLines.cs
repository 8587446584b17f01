using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;
using System.Reflection.PortableExecutable;
using System.Text;

namespace NativeLeaks.Symbols.Managed;

/// <summary>A place in the source.</summary>
/// <param name="File">The document, as the compiler named it.</param>
/// <param name="Line">Line in it.</param>
/// <param name="Link">Where the document can be read, if the PDB carries SourceLink; else null.</param>
internal readonly record struct SourceLine(string File, int Line, string? Link);

/// <summary>
/// Source lines of an assembly's methods, from its portable PDB: beside the assembly, embedded in it, or in one of the folders
/// of the symbol path. A PDB counts only if its id is the one that the assembly names. One caller at a time.
/// </summary>
internal sealed class MethodLines : IDisposable
{
    private readonly MetadataReaderProvider? _provider;
    private readonly MetadataReader? _pdb;
    private readonly Dictionary<DocumentHandle, (string File, string? Link)> _documents = [];
    private SourceLinkMap? _links;

    private MethodLines(MetadataReaderProvider? provider, MetadataReader? pdb)
    {
        _provider = provider;
        _pdb = pdb;
    }

    public static MethodLines None { get; } = new(null, null);

    public static MethodLines Open(string assembly, PEReader file, SymbolSettings settings)
    {
        foreach (string path in (IEnumerable<string>)[assembly, .. settings.SearchFolders.Select(f => Path.Combine(f, Path.GetFileName(assembly)))])
        {
            try
            {
                if (file.TryOpenAssociatedPortablePdb(path, OpenPdb, out MetadataReaderProvider? provider, out _))
                {
                    return new MethodLines(provider, provider!.GetMetadataReader());
                }
            }
            catch (Exception e) when (AssemblyFile.IsDamage(e))
            {
                // The next folder may have a better one.
            }
        }

        return None;
    }

    /// <summary>
    /// The statement that an IL offset belongs to: the last one before it that is not hidden; null when there is none.
    /// </summary>
    public SourceLine? Find(int token, int ilOffset)
    {
        if (_pdb is null || ilOffset < 0)
        {
            return null;
        }

        try
        {
            MethodDebugInformation method =
                _pdb.GetMethodDebugInformation(MetadataTokens.MethodDefinitionHandle(token & 0xffffff).ToDebugInformationHandle());
            SequencePoint? best = null;
            foreach (SequencePoint point in method.GetSequencePoints())
            {
                if (point.Offset > ilOffset)
                {
                    break;
                }

                best = point.IsHidden ? best : point;
            }

            if (best is not { } found)
            {
                return null;
            }

            (string name, string? link) = Document(found.Document);
            return new SourceLine(name, found.StartLine, link is null ? null : $"{link}#L{found.StartLine}");
        }
        catch (Exception e) when (AssemblyFile.IsDamage(e))
        {
            return null;
        }
    }

    public void Dispose() => _provider?.Dispose();

    private static Stream? OpenPdb(string path)
    {
        using FileStream? file = AssemblyFile.OpenFile(path);
        if (file is null)
        {
            return null;
        }

        // Read whole: a file that shrinks later must not matter.
        var copy = new MemoryStream(checked((int)file.Length));
        file.CopyTo(copy);
        copy.Position = 0;
        return copy;
    }

    private (string File, string? Link) Document(DocumentHandle handle)
    {
        if (!_documents.TryGetValue(handle, out (string File, string? Link) document))
        {
            string name = _pdb!.GetString(_pdb.GetDocument(handle).Name);
            _links ??= SourceLinkMap.Read(_pdb);
            _documents[handle] = document = (name, _links.Find(name));
        }

        return document;
    }
}
