using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Diagnostics.Runtime;

namespace NativeLeaks.RuntimeReader;

/// <summary>The frozen copy as ClrMD sees a process. The copy that is looked at can be changed for a later one.</summary>
internal sealed unsafe class CopiedProcess : IDataReader
{
    private Func<ulong, nint, int, int> _read = static (_, _, _) => 0;
    private (ulong Start, string Path)[] _images = [];

    public string DisplayName => "a frozen copy";

    public bool IsThreadSafe => true;

    public OSPlatform TargetPlatform => OSPlatform.Linux;

    public Architecture Architecture => Architecture.X64;

    public int ProcessId => Environment.ProcessId;

    public int PointerSize => sizeof(ulong);

    /// <param name="read">Address, destination, bytes; returns how many were read.</param>
    /// <param name="images">Files that are mapped from their beginning.</param>
    public void LookAt(Func<ulong, nint, int, int> read, (ulong Start, string Path)[] images) => (_read, _images) = (read, images);

    public int Read(ulong address, Span<byte> buffer)
    {
        fixed (byte* bytes = buffer)
        {
            return buffer.IsEmpty ? 0 : _read(address, (nint)bytes, buffer.Length);
        }
    }

    public bool Read<T>(ulong address, out T value)
        where T : unmanaged
    {
        value = default;
        return Read(address, MemoryMarshal.AsBytes(new Span<T>(ref value))) == Unsafe.SizeOf<T>();
    }

    public T Read<T>(ulong address)
        where T : unmanaged
    {
        Read(address, out T value);
        return value;
    }

    public bool ReadPointer(ulong address, out ulong value) => Read(address, out value);

    public ulong ReadPointer(ulong address) => Read<ulong>(address);

    // Stacks are read word by word elsewhere.
    public bool GetThreadContext(uint threadID, uint contextFlags, Span<byte> context) => false;

    public IEnumerable<ModuleInfo> EnumerateModules()
    {
        foreach ((ulong start, string path) in _images)
        {
            if (ModuleInfo.TryCreate(this, start, path, limits: null) is { } module)
            {
                yield return module;
            }
        }
    }

    public void FlushCachedData()
    {
        // Nothing is cached.
    }
}
