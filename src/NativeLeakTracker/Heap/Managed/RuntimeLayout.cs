using System.Runtime.InteropServices;
using System.Text.Json;

namespace NativeLeaks.Heap.Managed;

/// <summary>
/// Offsets of the runtime's own structures, as it exports them for readers (.NET: docs/design/datacontracts/contract-descriptor.md):
/// <c>DotNetRuntimeContractDescriptor</c> with a magic, flags, and a JSON text.
/// </summary>
internal static unsafe class RuntimeLayout
{
    private const ulong Magic = 0x0043414443434e44; // "DNCCDAC\0"
    private const int MaxTextBytes = 1 << 20;

    private static readonly Lazy<JsonDocument?> s_document = new(Read);

    /// <summary>Where a field is in a structure; null: this runtime does not say.</summary>
    public static int? OffsetOf(string type, string field)
    {
        if (s_document.Value is not { } document ||
            !document.RootElement.TryGetProperty("types", out JsonElement types) ||
            !types.TryGetProperty(type, out JsonElement fields) ||
            !fields.TryGetProperty(field, out JsonElement place))
        {
            return null;
        }

        // An offset, or an offset and the field's type.
        JsonElement offset = place.ValueKind == JsonValueKind.Array && place.GetArrayLength() > 0 ? place[0] : place;
        return offset.ValueKind == JsonValueKind.Number && offset.TryGetInt32(out int number) ? number : null;
    }

    private static JsonDocument? Read()
    {
        try
        {
            string library = Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "libcoreclr.so");
            if (!NativeLibrary.TryLoad(library, out nint runtime) ||
                !NativeLibrary.TryGetExport(runtime, "DotNetRuntimeContractDescriptor", out nint descriptor))
            {
                return null;
            }

            // struct: uint64 magic, uint32 flags, uint32 bytes of the text, the text, ...
            uint bytes = *(uint*)(descriptor + 12);
            return *(ulong*)descriptor == Magic && bytes <= MaxTextBytes
                ? JsonDocument.Parse(new ReadOnlySpan<byte>(*(byte**)(descriptor + 16), (int)bytes).ToArray(), new JsonDocumentOptions { CommentHandling = JsonCommentHandling.Skip })
                : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
