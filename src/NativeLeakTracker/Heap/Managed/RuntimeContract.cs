using System.Globalization;
using System.Text.Json;

namespace NativeLeaks.Heap.Managed;

/// <summary>
/// The runtime's own description of its structures, which it exports as <c>DotNetRuntimeContractDescriptor</c>: offsets of
/// fields, and where its globals lie. Immutable.
/// </summary>
internal sealed class RuntimeContract
{
    private const ulong Magic = 0x0043414443434e44; // "DNCCDAC"
    private const int MaxBytes = 1 << 20;
    private const int MaxPointers = 1 << 16;

    private readonly Dictionary<string, int> _fields = new(StringComparer.Ordinal);
    private readonly Dictionary<string, ulong> _globals = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int> _versions = new(StringComparer.Ordinal);

    private RuntimeContract(JsonElement json, ulong[] pointers)
    {
        foreach (JsonProperty type in json.GetProperty("types").EnumerateObject())
        {
            foreach (JsonProperty field in type.Value.EnumerateObject())
            {
                JsonElement offset = field.Value.ValueKind == JsonValueKind.Array ? field.Value[0] : field.Value;
                if (offset.TryGetInt32(out int value))
                {
                    _fields[$"{type.Name}.{field.Name}"] = value;
                }
            }
        }

        foreach (JsonProperty global in json.GetProperty("globals").EnumerateObject())
        {
            if (ValueOf(global.Value, pointers) is { } value)
            {
                _globals[global.Name] = value;
            }
        }

        foreach (JsonProperty contract in json.GetProperty("contracts").EnumerateObject())
        {
            _versions[contract.Name] = contract.Value.TryGetInt32(out int version) ? version : -1;
        }
    }

    /// <exception cref="HeapUnavailableException">The runtime does not describe itself in a way that is known.</exception>
    public static RuntimeContract Read(FrozenMemory memory, ulong address)
    {
        try
        {
            // Magic, flags, length of the text, the text; number of pointers, nothing, the pointers.
            var head = new byte[40];
            if (address != 0 && memory.Read(address, head) == head.Length && BitConverter.ToUInt64(head) == Magic
                && BitConverter.ToInt32(head, 12) is > 0 and <= MaxBytes and var textBytes
                && BitConverter.ToInt32(head, 24) is >= 0 and <= MaxPointers and var pointerCount)
            {
                var text = new byte[textBytes];
                var pointers = new byte[pointerCount * sizeof(ulong)];
                if (memory.Read(BitConverter.ToUInt64(head, 16), text) == text.Length
                    && memory.Read(BitConverter.ToUInt64(head, 32), pointers) == pointers.Length)
                {
                    using JsonDocument json = JsonDocument.Parse(text);
                    return new RuntimeContract(json.RootElement, [.. pointers.Chunk(sizeof(ulong)).Select(static p => BitConverter.ToUInt64(p))]);
                }
            }
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException or OverflowException)
        {
            throw new HeapUnavailableException("the description that the .NET runtime gives of itself cannot be read", e);
        }

        throw new HeapUnavailableException("this version of the .NET runtime does not describe itself");
    }

    /// <summary>The offset of a field in its structure, or with <c>!</c> the size of the structure.</summary>
    /// <exception cref="HeapUnavailableException">The runtime does not have it.</exception>
    public int Field(string type, string field) =>
        _fields.TryGetValue($"{type}.{field}", out int offset) && offset is >= 0 and < 1 << 16 ? offset : throw Unknown($"{type}.{field}");

    /// <summary>The value of a number, or the address of a variable.</summary>
    /// <exception cref="HeapUnavailableException">The runtime does not have it.</exception>
    public ulong Global(string name) => _globals.TryGetValue(name, out ulong value) ? value : throw Unknown(name);

    /// <summary>Makes sure that what was learned of a part of the runtime holds for this one.</summary>
    /// <exception cref="HeapUnavailableException">It does not.</exception>
    public void Require(string contract, int version)
    {
        if (!_versions.TryGetValue(contract, out int found) || found != version)
        {
            throw Unknown($"{contract} {version}");
        }
    }

    private static HeapUnavailableException Unknown(string what) =>
        new($"this version of the .NET runtime is not known here (its description has no {what})");

    // ["0x1", "uint32"], or [[3], "pointer"]: number 3 of the pointers.
    private static ulong? ValueOf(JsonElement global, ulong[] pointers)
    {
        JsonElement value = global.ValueKind == JsonValueKind.Array ? global[0] : global;
        return value.ValueKind switch
        {
            JsonValueKind.Array => value[0].TryGetInt32(out int index) && index >= 0 && index < pointers.Length ? pointers[index] : null,
            JsonValueKind.Number => value.TryGetUInt64(out ulong number) ? number : null,
            JsonValueKind.String when value.GetString() is { } text && text.StartsWith("0x", StringComparison.Ordinal) =>
                ulong.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong hex) ? hex : null,
            _ => null,
        };
    }
}
