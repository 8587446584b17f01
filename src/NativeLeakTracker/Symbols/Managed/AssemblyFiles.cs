using System.Runtime.InteropServices;
using NativeLeaks.Ledger;

namespace NativeLeaks.Symbols.Managed;

/// <summary>
/// The files of the assemblies that the program used: those whose code appeared in a stack, and what these refer to. Opens
/// each once; one caller at a time.
/// </summary>
internal sealed class AssemblyFiles(LedgerReader ledger) : IDisposable
{
    private readonly Dictionary<uint, AssemblyFile?> _byImage = [];
    private readonly Dictionary<string, AssemblyFile?> _byName = new(StringComparer.OrdinalIgnoreCase);

    /// <summary>Path of an image; empty for one that has no file.</summary>
    public string PathOf(uint image) => image < ledger.Images.Length ? ledger.Text(ledger.Images[(int)image].Path) : "";

    /// <summary>An image that the engine met; null when its file is gone, or is another one by now.</summary>
    public AssemblyFile? OfImage(uint id)
    {
        if (!_byImage.TryGetValue(id, out AssemblyFile? file))
        {
            _byImage[id] = file = Open(id);
        }

        return file;
    }

    /// <summary>The assembly of a simple name: one that the engine met, or a file beside one of those.</summary>
    public AssemblyFile? Named(string name)
    {
        if (!_byName.TryGetValue(name, out AssemblyFile? file))
        {
            _byName[name] = file = Find(name);
        }

        return file;
    }

    public void Dispose()
    {
        foreach (AssemblyFile? file in _byImage.Values.Concat(_byName.Values))
        {
            file?.Dispose();
        }
    }

    private AssemblyFile? Open(uint id)
    {
        if (id == 0 || id >= ledger.Images.Length)
        {
            return null;
        }

        ImageEntry image = ledger.Images[(int)id];
        return image.Metadata != 0
            ? AssemblyFile.FromMetadata(ledger.Blob(image.Metadata, image.MetadataBytes))
            : image.Path != 0 ? AssemblyFile.Open(ledger.Text(image.Path), image.Mvid) : null;
    }

    private AssemblyFile? Find(string name)
    {
        HashSet<string> folders = [];
        for (uint id = 1; id < ledger.Images.Length; id++)
        {
            string path = PathOf(id);
            if (string.Equals(Path.GetFileNameWithoutExtension(path), name, StringComparison.OrdinalIgnoreCase) && OfImage(id) is { } met)
            {
                return met;
            }

            if (Path.GetDirectoryName(path) is { Length: > 0 } folder)
            {
                folders.Add(folder);
            }
        }

        // A name that is a path of its own must not lead out of the folders.
        return Path.GetFileName(name) != name
            ? null
            : folders.Append(RuntimeEnvironment.GetRuntimeDirectory())
                .Select(folder => AssemblyFile.Open(Path.Combine(folder, name + ".dll"), mvid: null))
                .FirstOrDefault(static file => file is not null);
    }
}
