using Microsoft.Diagnostics.Runtime;
using NativeLeaks.Attach;
using NativeLeaks.Heap;
using NativeLeaks.RuntimeReader;

namespace Holders;

/// <summary>ClrMD's own walk over all objects of a copy, with one DataTarget for all copies, as ours has.</summary>
internal static class ClrMdWalk
{
    private static CopiedMemory? s_memory;
    private static ClrRuntime? s_runtime;

    public static unsafe long CountObjects(FrozenCopy copy)
    {
        if (s_memory is null)
        {
            MemoryMapping runtime = copy.Mappings.First(static m => m.Offset == 0 && Path.GetFileName(m.Path) == "libcoreclr.so");
            s_memory = new CopiedMemory(runtime.Start, runtime.Path);
        }

        s_memory.ProcessId = copy.ProcessId;
        s_memory.Source = (address, buffer, bytes) => copy.Read(address, new Span<byte>((void*)buffer, bytes));
        s_runtime ??= new DataTarget(s_memory, new DataTargetOptions { FileLocator = new LocalFilesOnly(), SymbolPaths = [] }).ClrVersions[0].CreateRuntime();
        s_runtime.FlushCachedData();
        return s_runtime.Heap.EnumerateObjects().LongCount();
    }
}
