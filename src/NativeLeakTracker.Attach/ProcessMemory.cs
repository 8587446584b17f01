using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Diagnostics.Runtime;

namespace NativeLeaks.Attach;

/// <summary>
/// The memory of another process, for ClrMD. ClrMD's own reader throws when the process has ended; the runtime's reader, which
/// is native code and asks for memory in the middle of its work, has nobody to catch that: our process would end with it.
/// </summary>
internal sealed unsafe partial class ProcessMemory(int pid) : IDataReader
{
    private const int PageBytes = 4096;

    public string DisplayName => $"process {ProcessId.ToString(CultureInfo.InvariantCulture)}";

    public bool IsThreadSafe => true;

    public OSPlatform TargetPlatform => OSPlatform.Linux;

    public Architecture Architecture => Architecture.X64;

    public int ProcessId { get; } = pid;

    public int PointerSize => sizeof(ulong);

    public int Read(ulong address, Span<byte> buffer)
    {
        if (buffer.IsEmpty)
        {
            return 0;
        }

        nint read = ReadAtOnce(address, buffer);
        if (read <= 0)
        {
            // The first page may be there although a later one is not.
            int toEndOfPage = PageBytes - (int)(address % PageBytes);
            read = toEndOfPage < buffer.Length ? ReadAtOnce(address, buffer[..toEndOfPage]) : 0;
        }

        return (int)Math.Max(read, 0);
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

    // Threads go on: what their registers were is of no use.
    public bool GetThreadContext(uint threadID, uint contextFlags, Span<byte> context) => false;

    public IEnumerable<ModuleInfo> EnumerateModules()
    {
        HashSet<string> seen = [];
        foreach (string line in ReadMaps())
        {
            // 7f0000000000-7f0000001000 r--p 00000000 08:01 1234    /path
            string[] fields = line.Split(' ', 6, StringSplitOptions.RemoveEmptyEntries);
            if (fields is [var range, _, var offset, _, _, var path]
                && path.StartsWith('/')
                && ulong.TryParse(offset, NumberStyles.HexNumber, CultureInfo.InvariantCulture, out ulong place) && place == 0
                && ulong.TryParse(range.Split('-')[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture, out ulong start)
                && seen.Add(path)
                && ModuleInfo.TryCreate(this, start, path, limits: null) is { } module)
            {
                yield return module;
            }
        }
    }

    public void FlushCachedData()
    {
        // Nothing is cached.
    }

    private string[] ReadMaps()
    {
        try
        {
            return File.ReadAllLines($"/proc/{ProcessId.ToString(CultureInfo.InvariantCulture)}/maps");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    private nint ReadAtOnce(ulong address, Span<byte> buffer)
    {
        fixed (byte* bytes = buffer)
        {
            var local = new Part { Start = (nuint)bytes, Length = (nuint)buffer.Length };
            var remote = new Part { Start = (nuint)address, Length = (nuint)buffer.Length };
            return ReadMemory(ProcessId, &local, 1, &remote, 1, 0);
        }
    }

    private struct Part
    {
        public nuint Start;
        public nuint Length;
    }

    [LibraryImport("libc", EntryPoint = "process_vm_readv")]
    private static partial nint ReadMemory(int pid, Part* local, nuint localCount, Part* remote, nuint remoteCount, nuint flags);
}
