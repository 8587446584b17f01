using Microsoft.Diagnostics.Tracing.Parsers.Clr;

namespace NativeLeaks.Attach;

/// <summary>One compiled body of a method, as the runtime listed it.</summary>
/// <param name="method">The event. It is read here and not kept.</param>
/// <param name="map">Pairs of an offset in the code and one in the IL; null: unknown.</param>
internal sealed class MethodBody(MethodLoadUnloadVerboseTraceData method, int[]? map)
{
    private const string StubPrefix = "IL_STUB";
    private readonly string _type = method.MethodNamespace;
    private readonly string _name = method.MethodName;
    private readonly string _signature = method.MethodSignature;
    private readonly bool _isDynamic = method.IsDynamic;

    public ulong Start { get; } = method.MethodStartAddress;

    public uint Size { get; } = (uint)Math.Max(method.MethodSize, 0);

    public long Module { get; } = method.ModuleID;

    /// <summary>0 for code that is in no assembly.</summary>
    public int Token { get; } = (method.MethodToken & 0xffffff) == 0 ? 0 : method.MethodToken;

    public string? ModulePath { get; set; }

    public bool IsStub => _isDynamic && _name.StartsWith(StubPrefix, StringComparison.Ordinal);

    public string Describe() =>
        IsStub ? _name
        : _isDynamic ? $"(dynamic) {_name}"
        : RuntimeNames.FromEvent(_type, _name, _signature);

    /// <summary>The place in the IL of the last mapped code that begins at an offset or before it.</summary>
    public int IlOffset(uint offset)
    {
        long begin = -1;
        int il = -1;
        for (int i = 0; map is not null && i + 1 < map.Length; i += 2)
        {
            // Of those that begin at the same place, all but the last are empty.
            if ((uint)map[i] <= offset && (uint)map[i] >= begin)
            {
                begin = (uint)map[i];
                il = map[i + 1];
            }
        }

        return Math.Max(il, -1);
    }

    public static int[] ReadMap(MethodILToNativeMapTraceData data)
    {
        // The count is the runtime's word; the event's own length is not.
        int count = Math.Clamp(data.CountOfMapEntries, 0, data.EventDataLength / (2 * sizeof(int)));
        var pairs = new int[count * 2];
        for (int i = 0; i < count; i++)
        {
            pairs[2 * i] = data.NativeOffset(i);
            pairs[(2 * i) + 1] = data.ILOffset(i);
        }

        return pairs;
    }
}
