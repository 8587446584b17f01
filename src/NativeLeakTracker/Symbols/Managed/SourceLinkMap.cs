using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;
using System.Text.Json;

namespace NativeLeaks.Symbols.Managed;

/// <summary>
/// Where a PDB says that its documents can be read: pairs of a path, with one <c>*</c> at its end at most, and an address
/// (dotnet/designs: accepted/2020/diagnostics/source-link.md).
/// </summary>
internal sealed class SourceLinkMap
{
    private static readonly Guid s_kind = new("CC110556-A091-4D38-9FEC-25AB9A351A6A");

    private readonly List<(string Path, string Url)> _documents = [];

    private SourceLinkMap()
    {
    }

    public static SourceLinkMap Read(MetadataReader pdb)
    {
        var map = new SourceLinkMap();
        try
        {
            foreach (CustomDebugInformationHandle handle in pdb.GetCustomDebugInformation(MetadataTokens.EntityHandle(0x00000001)))
            {
                CustomDebugInformation information = pdb.GetCustomDebugInformation(handle);
                if (pdb.GetGuid(information.Kind) == s_kind)
                {
                    map.Add(pdb.GetBlobBytes(information.Value));
                }
            }
        }
        catch (Exception e) when (e is JsonException || AssemblyFile.IsDamage(e))
        {
            // A link is an extra.
        }

        // The longest path that fits is the one that is meant.
        map._documents.Sort(static (a, b) => b.Path.Length - a.Path.Length);
        return map;
    }

    public string? Find(string document)
    {
        foreach ((string path, string url) in _documents)
        {
            if (path.EndsWith('*') && document.StartsWith(path[..^1], StringComparison.OrdinalIgnoreCase))
            {
                string rest = document[(path.Length - 1)..].Replace('\\', '/');
                return url.Replace("*", string.Join('/', rest.Split('/').Select(Uri.EscapeDataString)), StringComparison.Ordinal);
            }

            if (string.Equals(path, document, StringComparison.OrdinalIgnoreCase))
            {
                return url;
            }
        }

        return null;
    }

    private void Add(byte[] json)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        if (document.RootElement.TryGetProperty("documents", out JsonElement documents))
        {
            foreach (JsonProperty entry in documents.EnumerateObject())
            {
                if (entry.Value.GetString() is { } url && Uri.TryCreate(url.Replace("*", "x", StringComparison.Ordinal), UriKind.Absolute, out _))
                {
                    _documents.Add((entry.Name, url));
                }
            }
        }
    }
}
