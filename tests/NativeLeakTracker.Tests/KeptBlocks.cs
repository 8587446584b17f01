using System.Runtime.InteropServices;

namespace NativeLeaks.Tests;

/// <summary>Tests that keep blocks of sizes that nobody else asks for. What a test does not free itself is freed at its end.</summary>
public abstract class KeptBlocks
{
    private protected const int Size = 12_345;
    private readonly Lock _gate = new();
    private readonly List<nint> _blocks = []; // inverted: a list of addresses would keep the blocks

    [TearDown]
    public void Free_the_blocks()
    {
        _blocks.ForEach(static b => Free(~b));
        _blocks.Clear();
    }

    /// <summary>Asserts that exactly blocks of these sizes are leaks.</summary>
    private protected static void AssertLeaks(NativeLeakTracker t, params int[] sizes)
    {
        // What holds a block is not what these tests are about: in a process that has run for long, a stale word may.
        var report = t.GetReport();
        Assert.That(
            (report.LeakedBlocks + report.Kept.Sum(static k => k.Blocks), report.LeakedBytes + report.Kept.Sum(static k => k.Bytes)),
            Is.EqualTo((sizes.Length, sizes.Sum(size => (long)size))),
            report.ToText());
    }

    private protected static long OfReason(NativeLeakTracker t, string reason) =>
        t.GetReport().Excluded.Where(excluded => excluded.Reason == reason).Sum(excluded => excluded.Bytes);

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private protected static unsafe nint Allocate(int size) => (nint)NativeMemory.Alloc((nuint)size);

    private protected static unsafe nint Reallocate(nint block, nuint size) => (nint)NativeMemory.Realloc((void*)block, size);

    private protected static unsafe void Free(nint block) => NativeMemory.Free((void*)block);

    private protected nint Keep(int size)
    {
        var block = Allocate(size);
        lock (_gate)
        {
            _blocks.Add(~block);
        }

        return block;
    }

    private protected nint Resize(nint block, int size)
    {
        var resized = Reallocate(block, (nuint)size);
        lock (_gate)
        {
            _blocks.Remove(~block);
            _blocks.Add(~resized);
        }

        return resized;
    }

    private protected void Release(nint block)
    {
        lock (_gate)
        {
            _blocks.Remove(~block);
        }

        Free(block);
    }
}
