using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using NativeLeaks.Capture;

namespace NativeLeaks;

/// <summary>
/// <see cref="NativeMemory"/>, call by call, with leak tracking also where the native engine cannot run.
/// Switch a file over with <c>using NativeMemory = NativeLeaks.TrackedNativeMemory;</c>.
/// </summary>
/// <remarks>
/// Every method calls the one that it is named after: results, exceptions and the treatment of null and of zero sizes
/// are the same, and a block from one may be freed by the other. While a tracker is active and the native engine is
/// not recording, a block is remembered, with its size in bytes and the managed stack of its allocation, until one of
/// these methods frees it; that costs microseconds an allocation. With no tracker active a call costs one read of a
/// field more than the original. All methods may be called from any thread.
/// </remarks>
[SuppressMessage(
    "Naming",
    "CA1720:Identifier contains type name",
    Justification = "The names are those of the original: arguments may be passed by name.")]
public static unsafe class TrackedNativeMemory
{
    /// <inheritdoc cref="NativeMemory.Alloc(nuint)"/>
    public static void* Alloc(nuint byteCount) =>
        Allocated(NativeMemory.Alloc(byteCount), byteCount, "NativeMemory.Alloc(UIntPtr)");

    /// <inheritdoc cref="NativeMemory.Alloc(nuint, nuint)"/>
    public static void* Alloc(nuint elementCount, nuint elementSize) =>
        Allocated(
            NativeMemory.Alloc(elementCount, elementSize),
            elementCount * elementSize,
            "NativeMemory.Alloc(UIntPtr, UIntPtr)");

    /// <inheritdoc cref="NativeMemory.AllocZeroed(nuint)"/>
    public static void* AllocZeroed(nuint byteCount) =>
        Allocated(NativeMemory.AllocZeroed(byteCount), byteCount, "NativeMemory.AllocZeroed(UIntPtr)");

    /// <inheritdoc cref="NativeMemory.AllocZeroed(nuint, nuint)"/>
    public static void* AllocZeroed(nuint elementCount, nuint elementSize) =>
        Allocated(
            NativeMemory.AllocZeroed(elementCount, elementSize),
            elementCount * elementSize,
            "NativeMemory.AllocZeroed(UIntPtr, UIntPtr)");

    /// <inheritdoc cref="NativeMemory.Realloc(void*, nuint)"/>
    public static void* Realloc(void* ptr, nuint byteCount) =>
        (void*)WrapperLedger.Shared.Reallocated(
            (nint)ptr,
            byteCount,
            alignment: 0,
            static (old, size, _) => (nint)NativeMemory.Realloc((void*)old, size),
            "NativeMemory.Realloc(Void*, UIntPtr)",
            ReleaseFunction.NativeMemoryRealloc);

    /// <inheritdoc cref="NativeMemory.Free(void*)"/>
    public static void Free(void* ptr)
    {
        if (WrapperLedger.Shared.MayRelease((nint)ptr, ReleaseFunction.NativeMemoryFree))
        {
            NativeMemory.Free(ptr);
        }
    }

    /// <inheritdoc cref="NativeMemory.AlignedAlloc(nuint, nuint)"/>
    public static void* AlignedAlloc(nuint byteCount, nuint alignment) =>
        Allocated(
            NativeMemory.AlignedAlloc(byteCount, alignment),
            byteCount,
            "NativeMemory.AlignedAlloc(UIntPtr, UIntPtr)",
            AllocationFamily.AlignedNativeMemory);

    /// <inheritdoc cref="NativeMemory.AlignedRealloc(void*, nuint, nuint)"/>
    public static void* AlignedRealloc(void* ptr, nuint byteCount, nuint alignment) =>
        (void*)WrapperLedger.Shared.Reallocated(
            (nint)ptr,
            byteCount,
            alignment,
            static (old, size, alignment) => (nint)NativeMemory.AlignedRealloc((void*)old, size, alignment),
            "NativeMemory.AlignedRealloc(Void*, UIntPtr, UIntPtr)",
            ReleaseFunction.NativeMemoryAlignedRealloc);

    /// <inheritdoc cref="NativeMemory.AlignedFree(void*)"/>
    public static void AlignedFree(void* ptr)
    {
        if (WrapperLedger.Shared.MayRelease((nint)ptr, ReleaseFunction.NativeMemoryAlignedFree))
        {
            NativeMemory.AlignedFree(ptr);
        }
    }

    /// <inheritdoc cref="NativeMemory.Clear(void*, nuint)"/>
    public static void Clear(void* ptr, nuint byteCount) => NativeMemory.Clear(ptr, byteCount);

    /// <inheritdoc cref="NativeMemory.Copy(void*, void*, nuint)"/>
    public static void Copy(void* source, void* destination, nuint byteCount) =>
        NativeMemory.Copy(source, destination, byteCount);

    /// <inheritdoc cref="NativeMemory.Fill(void*, nuint, byte)"/>
    public static void Fill(void* ptr, nuint byteCount, byte value) => NativeMemory.Fill(ptr, byteCount, value);

    private static void* Allocated(
        void* ptr,
        nuint sizeBytes,
        string api,
        AllocationFamily family = AllocationFamily.NativeMemory) =>
        (void*)WrapperLedger.Shared.Allocated((nint)ptr, (long)sizeBytes, api, family);
}
