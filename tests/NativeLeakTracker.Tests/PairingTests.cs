using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text.Json;
using TrackedMemory = NativeLeaks.TrackedNativeMemory;
using Tracked = NativeLeaks.TrackedMarshal;

namespace NativeLeaks.Tests;

/// <summary>Releases that are wrong, each told with its stacks; and those that are right, of which nothing is said.</summary>
[TestFixture]
[NonParallelizable]
public sealed partial class PairingTests
{
    private const int Pairs = 10_000;

    private static readonly unsafe (string Name, Func<nint> Allocate)[] s_allocations =
    [
        ("NativeMemory.Alloc", () => (nint)TrackedMemory.Alloc(100)),
        ("NativeMemory.AlignedAlloc", () => (nint)TrackedMemory.AlignedAlloc(128, 64)),
        ("Marshal.AllocHGlobal", () => Tracked.AllocHGlobal(100)),
        ("Marshal.AllocCoTaskMem", () => Tracked.AllocCoTaskMem(100)),
        ("Marshal.StringToBSTR", () => Tracked.StringToBSTR("a text of a BSTR, as long as the others are")),
    ];

    // What each resizes to is released by the function that belongs to it.
    private static readonly unsafe (string Name, string Allocator, Action<nint> Release)[] s_releases =
    [
        ("NativeMemory.Free", "NativeMemory.Alloc", static p => TrackedMemory.Free((void*)p)),
        ("NativeMemory.Realloc", "NativeMemory.Alloc", static p => TrackedMemory.Free(TrackedMemory.Realloc((void*)p, 300))),
        ("NativeMemory.AlignedFree", "NativeMemory.AlignedAlloc", static p => TrackedMemory.AlignedFree((void*)p)),
        ("NativeMemory.AlignedRealloc", "NativeMemory.AlignedAlloc",
            static p => TrackedMemory.AlignedFree(TrackedMemory.AlignedRealloc((void*)p, 300, 64))),
        ("Marshal.FreeHGlobal", "Marshal.AllocHGlobal", Tracked.FreeHGlobal),
        ("Marshal.ReAllocHGlobal", "Marshal.AllocHGlobal", static p => Tracked.FreeHGlobal(Tracked.ReAllocHGlobal(p, 300))),
        ("Marshal.ZeroFreeGlobalAllocAnsi", "Marshal.AllocHGlobal", Zeroed(Tracked.ZeroFreeGlobalAllocAnsi)),
        ("Marshal.ZeroFreeGlobalAllocUnicode", "Marshal.AllocHGlobal", Zeroed(Tracked.ZeroFreeGlobalAllocUnicode)),
        ("Marshal.FreeCoTaskMem", "Marshal.AllocCoTaskMem", Tracked.FreeCoTaskMem),
        ("Marshal.ReAllocCoTaskMem", "Marshal.AllocCoTaskMem", static p => Tracked.FreeCoTaskMem(Tracked.ReAllocCoTaskMem(p, 300))),
        ("Marshal.ZeroFreeCoTaskMemAnsi", "Marshal.AllocCoTaskMem", Zeroed(Tracked.ZeroFreeCoTaskMemAnsi)),
        ("Marshal.ZeroFreeCoTaskMemUnicode", "Marshal.AllocCoTaskMem", Zeroed(Tracked.ZeroFreeCoTaskMemUnicode)),
        ("Marshal.ZeroFreeCoTaskMemUTF8", "Marshal.AllocCoTaskMem", Zeroed(Tracked.ZeroFreeCoTaskMemUTF8)),
        ("Marshal.FreeBSTR", "Marshal.StringToBSTR", Tracked.FreeBSTR),
        ("Marshal.ZeroFreeBSTR", "Marshal.StringToBSTR", Tracked.ZeroFreeBSTR),
    ];

    private static IEnumerable<TestCaseData> WrongPairs =>
        from allocation in s_allocations
        from release in s_releases
        where release.Allocator != allocation.Name
        select new TestCaseData(allocation.Allocate, release.Release, allocation.Name, release.Name)
            .SetName($"{release.Name} of memory of {allocation.Name} is reported with both stacks, and released rightly");

    private static IEnumerable<TestCaseData> RightPairs =>
        from release in s_releases
        from allocation in s_allocations
        where release.Allocator == allocation.Name
        select new TestCaseData(allocation.Allocate, release.Release)
            .SetName($"10,000 times {allocation.Name} and {release.Name} are right");

    [Test]
    public void Double_free_is_reported_with_all_three_stacks()
    {
        using var t = NativeLeakTracker.Start();
        ReleaseAgain(ReleaseFirst(AllocateHere()));

        var thrown = Assert.Throws<NativeLeakException>(t.AssertNoLeaks)!;
        Assert.That(
            thrown.Message,
            Does.StartWith("1 pairing bug: a block of 100 bytes was released that had been released before."),
            thrown.Report.ToText());
        var bug = thrown.Report.PairingBugs.Single();
        Assert.That((bug.Kind, bug.Count), Is.EqualTo(("doubleFree", 1L)));
        AssertStack(bug.Stack, nameof(ReleaseAgain));
        AssertStack(bug.FirstReleaseStack, nameof(ReleaseFirst));
        AssertStack(bug.AllocationStack, nameof(AllocateHere));
        foreach (var heading in new[] { "released again at", "released first at", "allocated at" })
        {
            Assert.That(thrown.Message, Does.Contain("\n  " + heading + "\n"));
        }
    }

    [Test]
    public void Double_free_through_libc_is_reported_with_all_three_stacks()
    {
        using var t = NativeLeakTracker.Start();
        ReleaseAgainByLibc(ReleaseByLibc(AllocateByLibc()));

        var bug = t.GetReport().PairingBugs.Single();
        Assert.That(bug.Kind, Is.EqualTo("doubleFree"));
        AssertStack(bug.Stack, nameof(ReleaseAgainByLibc));
        AssertStack(bug.FirstReleaseStack, nameof(ReleaseByLibc));
        AssertStack(bug.AllocationStack, nameof(AllocateByLibc));
    }

    [Test]
    public unsafe void Free_inside_a_block_is_reported_with_both_stacks()
    {
        using var t = NativeLeakTracker.Start();
        var block = AllocateHere();
        ReleaseAgain(block + 32);

        var bug = t.GetReport().PairingBugs.Single();
        Assert.That(bug.Kind, Is.EqualTo("notABlock"));
        Assert.That(bug.Description, Is.EqualTo("an address was released that lies 32 bytes inside a block of 100 bytes, not at its start"));
        AssertStack(bug.Stack, nameof(ReleaseAgain));
        AssertStack(bug.AllocationStack, nameof(AllocateHere));
        NativeMemory.Free((void*)block);
    }

    [Test]
    public unsafe void Free_of_a_local_and_of_a_library_is_reported()
    {
        using var t = NativeLeakTracker.Start();
        var local = stackalloc byte[64];
        ReleaseAgain(((nint)local + 15) & ~15);
        ReleaseAgain(NativeLibrary.GetExport(NativeLibrary.Load("libc.so.6"), "environ") & ~15);

        Assert.That(
            t.GetReport().PairingBugs.Select(bug => (bug.Kind, bug.Description)),
            Is.EquivalentTo(new[]
            {
                ("notABlock", "an address was released that lies on the stack of the thread"),
                ("notABlock", "an address was released that lies in a loaded program or library, not in the heap"),
            }));
    }

    [Test]
    public void Equal_bugs_are_one_with_a_count()
    {
        using var t = NativeLeakTracker.Start();
        for (var i = 0; i < 5; i++)
        {
            ReleaseAgain(ReleaseFirst(AllocateHere()));
        }

        Assert.That(t.GetReport().PairingBugs.Single().Count, Is.EqualTo(5));
    }

    [TestCaseSource(nameof(WrongPairs))]
    public void Wrong_pair(Func<nint> allocate, Action<nint> release, string allocator, string function)
    {
        using var t = NativeLeakTracker.Start();
        release(allocate());

        var report = t.GetReport();
        var bug = report.PairingBugs.Single();
        Assert.That(bug.Kind, Is.EqualTo("wrongFunction"));
        Assert.That(bug.Description, Does.StartWith($"memory of {allocator} was released by {function};"));
        AssertStack(bug.Stack, nameof(Wrong_pair));
        AssertStack(bug.AllocationStack, nameof(Wrong_pair));
        Assert.That(report.Leaks, Is.Empty, report.ToText());
    }

    [TestCaseSource(nameof(RightPairs))]
    public void Right_pair(Func<nint> allocate, Action<nint> release)
    {
        using var t = NativeLeakTracker.Start();
        var uncertain = t.GetReport().Capture.UncertainReleases;
        for (var i = 0; i < Pairs; i++)
        {
            release(allocate());
        }

        t.AssertNoLeaks();
        Assert.That(t.GetReport().Capture.UncertainReleases, Is.EqualTo(uncertain));
    }

    [Test]
    public void Memory_of_libc_that_a_wrapper_releases_is_right()
    {
        using var t = NativeLeakTracker.Start();
        for (var i = 0; i < Pairs; i++)
        {
            // The note of the wrapper's block, which libc released, must not accuse the next one at its address.
            LibcFree(Tracked.AllocCoTaskMem(100));
            Tracked.FreeHGlobal(AllocateByLibc());
        }

        t.AssertNoLeaks();
    }

    [Test]
    public async Task Parallel_scopes_are_told_only_their_own_wrong_releases()
    {
        const int Flows = 8;
        using var open = new Barrier(Flows);
        using var released = new Barrier(Flows);
        await Task.WhenAll(Enumerable.Range(0, Flows).Select(flow => Task.Factory.StartNew(
            () =>
            {
                using var t = NativeLeakTracker.Start();
                open.SignalAndWait();
                for (var i = 0; i < flow; i++)
                {
                    ReleaseAgain(ReleaseFirst(AllocateHere()));
                }

                released.SignalAndWait();
                Assert.That(t.GetReport().PairingBugs.Sum(bug => bug.Count), Is.EqualTo(flow));
                released.SignalAndWait();
            },
            CancellationToken.None,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default)));
    }

    [Test]
    public void Json_has_the_stacks_of_a_wrong_release()
    {
        using var t = NativeLeakTracker.Start();
        ReleaseAgain(ReleaseFirst(AllocateHere()));
        using var json = new MemoryStream();
        t.GetReport().WriteJson(json);

        var bug = JsonDocument.Parse(json.ToArray()).RootElement.GetProperty("pairing")[0];
        Assert.That(bug.GetProperty("kind").GetString(), Is.EqualTo("doubleFree"));
        foreach (var stack in new[] { "stack", "firstReleaseStack", "allocationStack" })
        {
            Assert.That(bug.GetProperty(stack).GetArrayLength(), Is.GreaterThan(1), stack);
        }
    }

    [Test]
    public void Who_does_not_ask_is_told_nothing()
    {
        using var t = NativeLeakTracker.Start(new NativeLeakOptions { CheckPairing = false });
        Tracked.FreeCoTaskMem(Tracked.AllocHGlobal(100));

        t.AssertNoLeaks();
        Assert.That(t.GetReport().PairingBugs, Is.Empty);
    }

    // The innermost frame of this class that is neither a lambda nor a declaration.
    private static void AssertStack(IReadOnlyList<LeakFrame> stack, string method) =>
        Assert.That(
            stack.Where(static frame => frame.Module == "NativeLeakTracker.Tests.dll")
                .Select(static frame => frame.Method!.Split('(')[0])
                .FirstOrDefault(static name => !name.Contains('<', StringComparison.Ordinal) && !name.Contains(".Libc", StringComparison.Ordinal)),
            Is.EqualTo($"{typeof(PairingTests).FullName}.{method}"),
            string.Join('\n', stack));

    // What is not zeroed need not end.
    private static unsafe Action<nint> Zeroed(Action<nint> release) => p =>
    {
        *(long*)p = 0;
        release(p);
    };

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static unsafe nint AllocateHere() => (nint)NativeMemory.Alloc(100);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static unsafe nint ReleaseFirst(nint block)
    {
        NativeMemory.Free((void*)block);
        return block;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static unsafe int ReleaseAgain(nint block)
    {
        NativeMemory.Free((void*)block);
        return 1;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static nint AllocateByLibc()
    {
        var block = LibcMalloc(100);
        return block;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static nint ReleaseByLibc(nint block)
    {
        LibcFree(block);
        return block;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int ReleaseAgainByLibc(nint block)
    {
        LibcFree(block);
        return 1;
    }

    [LibraryImport("libc", EntryPoint = "malloc")]
    private static partial nint LibcMalloc(nint size);

    [LibraryImport("libc", EntryPoint = "free")]
    private static partial void LibcFree(nint block);
}
