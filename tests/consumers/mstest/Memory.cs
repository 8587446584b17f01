using System.Runtime.InteropServices;

namespace Consumer;

/// <summary>Native memory to forget. Each test takes another size, by which its report is known.</summary>
internal static class Memory
{
    public static nint Take(int bytes) => Marshal.AllocHGlobal(bytes);

    public static void Free(nint block) => Marshal.FreeHGlobal(block);

    public static void Forget(int bytes) => Take(bytes);

    public static void TakeAndFree(int bytes) => Free(Take(bytes));
}
