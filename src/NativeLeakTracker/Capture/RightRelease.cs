using System.Runtime.InteropServices;

namespace NativeLeaks.Capture;

/// <summary>
/// Releases a block by the function that belongs to it, where the program called another: the wrong one may end the process, and the
/// report would be lost.
/// </summary>
internal static unsafe class RightRelease
{
    public static void Free(nint address, AllocationFamily family, long? sizeBytes, bool clears)
    {
        if (clears && family != AllocationFamily.Bstr && sizeBytes is { } known)
        {
            NativeMemory.Clear((void*)address, (nuint)known);
        }

        switch (family)
        {
            case AllocationFamily.NativeMemory:
                NativeMemory.Free((void*)address);
                break;
            case AllocationFamily.AlignedNativeMemory:
                NativeMemory.AlignedFree((void*)address);
                break;
            case AllocationFamily.HGlobal:
                Marshal.FreeHGlobal(address);
                break;
            case AllocationFamily.CoTaskMem:
                Marshal.FreeCoTaskMem(address);
                break;
            case AllocationFamily.Bstr when clears:
                Marshal.ZeroFreeBSTR(address);
                break;
            case AllocationFamily.Bstr:
                Marshal.FreeBSTR(address);
                break;
        }
    }

    /// <summary>
    /// Resizes a block by a function of another family: what it holds moves to a new block of that family. Null: the function may be
    /// called as it is, because it resizes what both families allocate, or because nobody knows how much to move.
    /// </summary>
    public static nint? Move(
        nint address,
        AllocationFamily family,
        long? sizeBytes,
        nuint newSizeBytes,
        nuint alignment,
        Func<nint, nuint, nuint, nint> real,
        ReleaseFunction function)
    {
        long? known = family == AllocationFamily.Bstr ? *(uint*)(address - sizeof(uint)) + sizeof(char) : sizeBytes;
        if (known is not { } bytes || (OperatingSystem.IsLinux() && family != AllocationFamily.Bstr))
        {
            return null;
        }

        nint moved = newSizeBytes == 0 && function == ReleaseFunction.ReAllocCoTaskMem ? 0 : real(0, newSizeBytes, alignment);
        if (moved != 0)
        {
            NativeMemory.Copy((void*)address, (void*)moved, nuint.Min((nuint)bytes, newSizeBytes));
        }

        Free(address, family, sizeBytes, clears: false);
        return moved;
    }
}
