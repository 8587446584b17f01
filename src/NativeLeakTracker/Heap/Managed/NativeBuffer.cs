using System.Runtime.InteropServices;

namespace NativeLeaks.Heap.Managed;

/// <summary>
/// Zeroed memory straight from the kernel: it costs nothing until it is touched, goes back as a whole, and leaves nothing of
/// what was in it in the program's own heaps.
/// </summary>
internal sealed unsafe partial class NativeBuffer : SafeHandle
{
    private const int ReadAndWrite = 3;
    private const int PrivateAnonymousNoReserve = 0x4022;
    private const int UseLargePages = 14; // MADV_HUGEPAGE

    private readonly nuint _bytes;

    /// <param name="bytes">At least 1.</param>
    /// <exception cref="HeapUnavailableException">There is not so much address space.</exception>
    public NativeBuffer(ulong bytes)
        : base(-1, ownsHandle: true)
    {
        _bytes = checked((nuint)bytes);
        SetHandle(Map(0, _bytes, ReadAndWrite, PrivateAnonymousNoReserve, -1, 0));
        if (IsInvalid)
        {
            throw new HeapUnavailableException($"the kernel has no {bytes >> 20} MB of memory to read the managed heap into");
        }

        // A hint: a twentieth of the time goes into faults otherwise. What comes of it does not matter.
        _ = Advise(handle, _bytes, UseLargePages);
    }

    public override bool IsInvalid => handle == -1;

    public byte* Start => (byte*)handle;

    protected override bool ReleaseHandle() => Unmap(handle, _bytes) == 0;

    [LibraryImport("libc", EntryPoint = "mmap")]
    private static partial nint Map(nint address, nuint length, int protection, int flags, int file, nint offset);

    [LibraryImport("libc", EntryPoint = "munmap")]
    private static partial int Unmap(nint address, nuint length);

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Advise(nint address, nuint length, int advice);
}
