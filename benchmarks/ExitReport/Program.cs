// Leaves 100,000 blocks allocated in 2,048 contexts, for what the report on exit costs: NATIVELEAKS=1 asks for it.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

internal static unsafe class Program
{
    private const int Depth = 11;
    private const int BlocksEach = 49;

    private static void Main()
    {
        for (int path = 0; path < 1 << Depth; path++)
        {
            Descend(path, Depth);
        }

        Console.WriteLine($"{(1 << Depth) * BlocksEach} blocks");
    }

    /// <summary>A path of left and right turns, so that each number has a stack of its own.</summary>
    private static int Descend(int path, int depth) =>
        depth == 0 ? Allocate() : (path & 1) == 0 ? Left(path >> 1, depth - 1) : Right(path >> 1, depth - 1);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Left(int path, int depth) => Descend(path, depth) + 1;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Right(int path, int depth) => Descend(path, depth) + 2;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Allocate()
    {
        for (int i = 0; i < BlocksEach; i++)
        {
            NativeMemory.Alloc(40);
        }

        return 0;
    }
}
