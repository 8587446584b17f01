using System;
using System.Linq;
using System.Runtime.InteropServices;
using NativeLeaks;
using NUnit.Framework;

namespace Consumer;

// The runtime asks libc itself for these functions, past everything that was loaded before it. Each test has imports of
// its own, because an import is bound once, at its first call: inside the scope in some tests, before it in the others.
[TestFixture]
public sealed class LibcImportTests
{
    [Test]
    public void Libc_malloc_kept_300_times_is_300_leaks()
    {
        using var t = NativeLeakTracker.Start();

        for (var i = 0; i < 300; i++)
        {
            KeptInScope.malloc(64);
        }

        AssertLeaks300Blocks(t, nameof(Libc_malloc_kept_300_times_is_300_leaks));
    }

    [Test]
    public void Libc_malloc_bound_before_Start_and_kept_300_times_is_300_leaks()
    {
        KeptBoundBefore.free(KeptBoundBefore.malloc(64));
        using var t = NativeLeakTracker.Start();

        for (var i = 0; i < 300; i++)
        {
            KeptBoundBefore.malloc(64);
        }

        AssertLeaks300Blocks(t, nameof(Libc_malloc_bound_before_Start_and_kept_300_times_is_300_leaks));
    }

    [Test]
    public void Libc_free_of_1000_native_blocks_leaves_none()
    {
        using var t = NativeLeakTracker.Start();

        for (var i = 0; i < 1000; i++)
        {
            FreedInScope.free(FreedInScope.strdup("a block that the native library allocates"));
        }

        t.AssertNoLeaks();
    }

    [Test]
    public void Libc_free_bound_before_Start_of_1000_native_blocks_leaves_none()
    {
        FreedBoundBefore.free(FreedBoundBefore.strdup("binds both imports"));
        using var t = NativeLeakTracker.Start();

        for (var i = 0; i < 1000; i++)
        {
            FreedBoundBefore.free(FreedBoundBefore.strdup("a block that the native library allocates"));
        }

        t.AssertNoLeaks();
    }

    private static void AssertLeaks300Blocks(NativeLeakTracker t, string test)
    {
        var report = Assert.Throws<NativeLeakException>(() => t.AssertNoLeaks()).Report;

        Assert.That(report.Leaks.Sum(leak => leak.Blocks), Is.EqualTo(300));
        Assert.That(report.Leaks.Sum(leak => leak.Bytes), Is.EqualTo(300 * 64));
        foreach (var leak in report.Leaks)
        {
            Assert.That(leak.Stack.Select(frame => frame.Method), Has.Some.Contains(test));
        }
    }

    private static class KeptInScope
    {
        [DllImport("libc")]
        internal static extern IntPtr malloc(nuint size);
    }

    private static class KeptBoundBefore
    {
        [DllImport("libc")]
        internal static extern IntPtr malloc(nuint size);

        [DllImport("libc")]
        internal static extern void free(IntPtr block);
    }

    private static class FreedInScope
    {
        [DllImport("libc")]
        internal static extern IntPtr strdup(string text);

        [DllImport("libc")]
        internal static extern void free(IntPtr block);
    }

    private static class FreedBoundBefore
    {
        [DllImport("libc")]
        internal static extern IntPtr strdup(string text);

        [DllImport("libc")]
        internal static extern void free(IntPtr block);
    }
}
