namespace NativeLeaks.Capture;

/// <summary>The functions of the Tracked wrappers that release or resize a block.</summary>
internal enum ReleaseFunction : byte
{
    NativeMemoryFree,
    NativeMemoryRealloc,
    NativeMemoryAlignedFree,
    NativeMemoryAlignedRealloc,
    FreeHGlobal,
    ReAllocHGlobal,
    ZeroFreeGlobalAllocAnsi,
    ZeroFreeGlobalAllocUnicode,
    FreeCoTaskMem,
    ReAllocCoTaskMem,
    ZeroFreeCoTaskMemAnsi,
    ZeroFreeCoTaskMemUnicode,
    ZeroFreeCoTaskMemUTF8,
    FreeBSTR,
    ZeroFreeBSTR,
}

internal static class ReleaseFunctions
{
    /// <summary>The family whose blocks the function is for.</summary>
    public static AllocationFamily Family(this ReleaseFunction function) => function switch
    {
        <= ReleaseFunction.NativeMemoryRealloc => AllocationFamily.NativeMemory,
        <= ReleaseFunction.NativeMemoryAlignedRealloc => AllocationFamily.AlignedNativeMemory,
        <= ReleaseFunction.ZeroFreeGlobalAllocUnicode => AllocationFamily.HGlobal,
        <= ReleaseFunction.ZeroFreeCoTaskMemUTF8 => AllocationFamily.CoTaskMem,
        _ => AllocationFamily.Bstr,
    };

    /// <summary>Whether it clears the block first.</summary>
    public static bool Clears(this ReleaseFunction function) => function is
        ReleaseFunction.ZeroFreeGlobalAllocAnsi or ReleaseFunction.ZeroFreeGlobalAllocUnicode or
        ReleaseFunction.ZeroFreeCoTaskMemAnsi or ReleaseFunction.ZeroFreeCoTaskMemUnicode or
        ReleaseFunction.ZeroFreeCoTaskMemUTF8 or ReleaseFunction.ZeroFreeBSTR;

    /// <summary>The name of the call that the wrapper stands in for.</summary>
    public static string Name(this ReleaseFunction function) => function switch
    {
        ReleaseFunction.NativeMemoryFree => "NativeMemory.Free",
        ReleaseFunction.NativeMemoryRealloc => "NativeMemory.Realloc",
        ReleaseFunction.NativeMemoryAlignedFree => "NativeMemory.AlignedFree",
        ReleaseFunction.NativeMemoryAlignedRealloc => "NativeMemory.AlignedRealloc",
        _ => "Marshal." + function,
    };

    /// <summary>What allocates blocks of a family, for people.</summary>
    public static string Allocator(this AllocationFamily family) => family switch
    {
        AllocationFamily.NativeMemory => "NativeMemory.Alloc",
        AllocationFamily.AlignedNativeMemory => "NativeMemory.AlignedAlloc",
        AllocationFamily.HGlobal => "Marshal.AllocHGlobal",
        AllocationFamily.CoTaskMem => "Marshal.AllocCoTaskMem",
        _ => "Marshal.StringToBSTR",
    };

    /// <summary>What releases them.</summary>
    public static string Release(this AllocationFamily family) => family switch
    {
        AllocationFamily.NativeMemory => "NativeMemory.Free",
        AllocationFamily.AlignedNativeMemory => "NativeMemory.AlignedFree",
        AllocationFamily.HGlobal => "Marshal.FreeHGlobal",
        AllocationFamily.CoTaskMem => "Marshal.FreeCoTaskMem",
        _ => "Marshal.FreeBSTR",
    };
}
