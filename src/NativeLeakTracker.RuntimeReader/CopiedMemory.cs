using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Diagnostics.Runtime;

namespace NativeLeaks.RuntimeReader;

/// <summary>
/// The memory of a process that stands still, for ClrMD. It is never that of the calling process itself: ClrMD walks structures
/// that must not change under it. Reading must not throw: the runtime's reader is native code that nobody would catch it for.
/// </summary>
internal sealed unsafe class CopiedMemory(ulong runtimeAddress, string runtimePath) : IDataReader
{
    private ulong _pretendedAt;
    private int _pretended;

    /// <summary>Reads as much as there is from an address into a buffer of so many bytes, and says how much that was.</summary>
    public Func<ulong, nint, int, int>? Source { get; set; }

    /// <summary>Where addresses are added of which four bytes are read; null: nowhere.</summary>
    public ISet<ulong>? Numbers { get; set; }

    public int ProcessId { get; set; }

    public string DisplayName => "copy of a process";

    public bool IsThreadSafe => true;

    public OSPlatform TargetPlatform => OSPlatform.Linux;

    public Architecture Architecture => Architecture.X64;

    public int PointerSize => sizeof(ulong);

    public int Read(ulong address, Span<byte> buffer)
    {
        if (buffer.IsEmpty || Source is not { } source)
        {
            return 0;
        }

        if (buffer.Length == sizeof(int))
        {
            Numbers?.Add(address);
            if (address == _pretendedAt && address != 0)
            {
                MemoryMarshal.Write(buffer, _pretended);
                return buffer.Length;
            }
        }

        fixed (byte* bytes = buffer)
        {
            return source(address, (nint)bytes, buffer.Length);
        }
    }

    /// <summary>Until the result is disposed, another number is read at an address than there is.</summary>
    public Pretence Pretend(ulong address, int number)
    {
        (_pretendedAt, _pretended) = (address, number);
        return new Pretence(this);
    }

    public bool Read<T>(ulong address, out T value)
        where T : unmanaged
    {
        value = default;
        return Read(address, MemoryMarshal.AsBytes(new Span<T>(ref value))) == Unsafe.SizeOf<T>();
    }

    public T Read<T>(ulong address)
        where T : unmanaged => Read(address, out T value) ? value : default;

    public bool ReadPointer(ulong address, out ulong value) => Read(address, out value);

    public ulong ReadPointer(ulong address) => Read<ulong>(address);

    // A copy has no threads; where those of the original stood is not asked of ClrMD.
    public bool GetThreadContext(uint threadID, uint contextFlags, Span<byte> context) => false;

    // The runtime alone: what else there is to know of modules, the runtime knows.
    public IEnumerable<ModuleInfo> EnumerateModules() =>
        ModuleInfo.TryCreate(this, runtimeAddress, runtimePath, limits: null) is { } module ? [module] : [];

    public void FlushCachedData()
    {
        // Nothing is cached.
    }

    public readonly ref struct Pretence(CopiedMemory memory)
    {
        public void Dispose() => memory._pretendedAt = 0;
    }
}
