using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using NativeLeaks.Capture;

namespace NativeLeaks;

/// <summary>
/// <see cref="Marshal"/>, call by call, with leak tracking also where the native engine cannot run.
/// Switch a file over with <c>using Marshal = NativeLeaks.TrackedMarshal;</c>.
/// </summary>
/// <remarks>
/// Every method calls the one that it is named after: results, exceptions and the treatment of null and of zero sizes
/// are the same, and a block from one may be freed by the other. While a tracker is active and the native engine is
/// not recording, a block is remembered, with its size in bytes and the managed stack of its allocation, until one of
/// these methods frees it; that costs microseconds an allocation. With no tracker active a call costs one read of a
/// field more than the original. All methods may be called from any thread. What Marshal has only for Windows (COM),
/// or calls obsolete, is not here.
/// </remarks>
[SuppressMessage(
    "Naming",
    "CA1720:Identifier contains type name",
    Justification = "The names are those of the original: arguments may be passed by name.")]
public static unsafe partial class TrackedMarshal
{
    /// <inheritdoc cref="Marshal.AllocHGlobal(int)"/>
    public static nint AllocHGlobal(int cb) => HGlobal(Marshal.AllocHGlobal(cb), cb, "Marshal.AllocHGlobal(Int32)");

    /// <inheritdoc cref="Marshal.AllocHGlobal(nint)"/>
    public static nint AllocHGlobal(nint cb) => HGlobal(Marshal.AllocHGlobal(cb), cb, "Marshal.AllocHGlobal(IntPtr)");

    /// <inheritdoc cref="Marshal.ReAllocHGlobal(nint, nint)"/>
    public static nint ReAllocHGlobal(nint pv, nint cb) =>
        WrapperLedger.Shared.Reallocated(
            pv,
            (nuint)cb,
            alignment: 0,
            static (old, size, _) => Marshal.ReAllocHGlobal(old, (nint)size),
            "Marshal.ReAllocHGlobal(IntPtr, IntPtr)",
            ReleaseFunction.ReAllocHGlobal);

    /// <inheritdoc cref="Marshal.FreeHGlobal(nint)"/>
    public static void FreeHGlobal(nint hglobal)
    {
        if (WrapperLedger.Shared.MayRelease(hglobal, ReleaseFunction.FreeHGlobal))
        {
            Marshal.FreeHGlobal(hglobal);
        }
    }

    /// <inheritdoc cref="Marshal.AllocCoTaskMem(int)"/>
    public static nint AllocCoTaskMem(int cb) =>
        CoTaskMem(Marshal.AllocCoTaskMem(cb), (uint)cb, "Marshal.AllocCoTaskMem(Int32)");

    /// <inheritdoc cref="Marshal.ReAllocCoTaskMem(nint, int)"/>
    /// <remarks>With <paramref name="cb"/> zero a block is freed and zero is returned, as the original does.</remarks>
    public static nint ReAllocCoTaskMem(nint pv, int cb) =>
        WrapperLedger.Shared.Reallocated(
            pv,
            (uint)cb,
            alignment: 0,
            static (old, size, _) => Marshal.ReAllocCoTaskMem(old, (int)(uint)size),
            "Marshal.ReAllocCoTaskMem(IntPtr, Int32)",
            ReleaseFunction.ReAllocCoTaskMem);

    /// <inheritdoc cref="Marshal.FreeCoTaskMem(nint)"/>
    public static void FreeCoTaskMem(nint ptr)
    {
        if (WrapperLedger.Shared.MayRelease(ptr, ReleaseFunction.FreeCoTaskMem))
        {
            Marshal.FreeCoTaskMem(ptr);
        }
    }

    /// <inheritdoc cref="Marshal.FreeBSTR(nint)"/>
    public static void FreeBSTR(nint ptr)
    {
        if (WrapperLedger.Shared.MayRelease(ptr, ReleaseFunction.FreeBSTR))
        {
            Marshal.FreeBSTR(ptr);
        }
    }

    private static nint HGlobal(nint address, long? sizeBytes, string api) =>
        WrapperLedger.Shared.Allocated(address, sizeBytes, api, AllocationFamily.HGlobal);

    private static nint CoTaskMem(nint address, long? sizeBytes, string api) =>
        WrapperLedger.Shared.Allocated(address, sizeBytes, api, AllocationFamily.CoTaskMem);

    private static nint Bstr(nint address, long? sizeBytes, string api) =>
        WrapperLedger.Shared.Allocated(address, sizeBytes, api, AllocationFamily.Bstr);
}
