using System.IO.Compression;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace NativeLeaks.Tests;

/// <summary>What finalizers would release is not outstanding; that they had to is told.</summary>
[TestFixture]
[NonParallelizable]
public sealed class SettlingTests
{
    private const int Size = 23_456;

    [Test]
    public void Undisposed_handle_is_found_and_its_type_named([Values] bool collectedBefore)
    {
        using var t = NativeLeakTracker.Start();

        Forget(static () => new BlockHandle(Size));
        if (collectedBefore)
        {
            Collect();
        }

        AssertUndisposed(t, "NativeLeaks.Tests.SettlingTests.BlockHandle", 1, nameof(Undisposed_handle_is_found_and_its_type_named));
    }

    [Test]
    public void Undisposed_object_with_a_finalizer_of_its_own_is_named([Values] bool collectedBefore)
    {
        using var t = NativeLeakTracker.Start();

        Forget(static () => new Buffer(Size));
        if (collectedBefore)
        {
            Collect();
        }

        AssertUndisposed(t, "NativeLeaks.Tests.SettlingTests.Buffer", 1, nameof(Undisposed_object_with_a_finalizer_of_its_own_is_named));
    }

    [Test]
    public void Handle_whose_finalizer_waits_for_that_of_another_is_found()
    {
        using var t = NativeLeakTracker.Start();

        Forget(static () => new Chained(new Chained(new Chained(null))));

        NativeLeakReport report = t.GetReport();
        Assert.That(report.LeakedBlocks, Is.EqualTo(3), report.ToText());
        Assert.That(report.Leaks.Select(leak => leak.How), Is.All.EqualTo("finalizer"));
    }

    [Test]
    public void Undisposed_object_of_the_framework_that_the_test_made_is_found()
    {
        using var t = NativeLeakTracker.Start();

        Forget(static () => new GZipStream(new MemoryStream(), CompressionLevel.Fastest));

        NativeLeakReport report = t.GetReport();
        Assert.That(report.Leaks.Select(leak => (leak.Verdict, leak.How)), Is.Not.Empty.And.All.EqualTo(("undisposed", "finalizer")), report.ToText());
        Assert.That(report.Leaks[0].FinalizedType, Does.Contain("ZLibStreamHandle"));
    }

    // This constructor leaves no frame behind: it ends in a jump to the one that does the work.
    [Test]
    public void Undisposed_object_is_found_though_its_constructor_left_no_frame()
    {
        using var t = NativeLeakTracker.Start();

        Forget(static () => new GZipStream(new MemoryStream(), CompressionMode.Compress));

        NativeLeakReport report = t.GetReport();
        Assert.That(report.Leaks.Select(leak => (leak.Verdict, leak.How)), Is.Not.Empty.And.All.EqualTo(("undisposed", "finalizer")), report.ToText());
    }

    // The key is made when it is first needed, not by Create.
    [Test]
    public void Undisposed_key_of_the_framework_is_found()
    {
        using (var first = RSA.Create())
        {
            Sign(first);
        }

        using var t = NativeLeakTracker.Start();
        Forget(static () => Sign(RSA.Create()));

        Assert.That(t.GetReport().Leaks.Where(leak => leak.How == "finalizer").Select(leak => leak.FinalizedType), Is.Not.Empty.And.All.Contains("SafeEvpPKeyHandle"));

        static RSA Sign(RSA key)
        {
            key.SignData("text"u8.ToArray(), HashAlgorithmName.SHA256, RSASignaturePadding.Pss);
            return key;
        }
    }

    [Test]
    public void Disposed_key_of_the_framework_is_none()
    {
        using var t = NativeLeakTracker.Start();

        for (var i = 0; i < 3; i++)
        {
            using var key = RSA.Create();
            key.SignData("text"u8.ToArray(), HashAlgorithmName.SHA256, RSASignaturePadding.Pss);
        }

        Assert.That(t.GetReport().Leaks.Select(leak => leak.How), Has.None.EqualTo("finalizer"));
    }

    [Test]
    public void Disposed_handles_are_none([Values(1, 100)] int count)
    {
        using var t = NativeLeakTracker.Start();

        for (var i = 0; i < count; i++)
        {
            using var handle = new BlockHandle(Size);
            using var stream = new GZipStream(new MemoryStream(), CompressionLevel.Fastest);
        }

        t.AssertNoLeaks();
    }

    [Test]
    public void Handle_that_another_scope_left_behind_is_not_ours()
    {
        using (NativeLeakTracker.Start())
        {
            Forget(static () => new BlockHandle(Size));
        }

        using var t = NativeLeakTracker.Start();
        Collect();

        t.AssertNoLeaks();
    }

    [Test]
    public void Release_that_another_thread_is_about_to_make_is_waited_for()
    {
        using var t = NativeLeakTracker.Start();
        using var handle = new BlockHandle(Size);
        var releases = new Thread(() =>
        {
            // Long enough for the assertion to begin, short enough for it to wait: that it passes without waiting proves nothing.
            Thread.Sleep(2);
            handle.Dispose();
        });
        releases.Start();

        Assert.That(() => t.GetReport().Leaks, Is.Empty.After(5000, 1));
        releases.Join();
        t.AssertNoLeaks();
    }

    [Test]
    public void Finalizer_that_does_not_end_is_not_waited_for_and_said()
    {
        using var release = new ManualResetEventSlim();
        using var t = NativeLeakTracker.Start(new NativeLeakOptions { SettleTimeout = TimeSpan.FromMilliseconds(200) });
        var block = Marshal.AllocHGlobal(Size);
        Forget(() => new Stubborn(release));

        NativeLeakReport first = t.GetReport(), second = t.GetReport();
        release.Set();
        GC.WaitForPendingFinalizers();

        Assert.That(first.Notes.Concat(second.Notes), Has.Exactly(2).Contains("finalizers did not finish"));
        Assert.That(t.GetReport().Notes, Is.Empty);
        Marshal.FreeHGlobal(block);
        t.AssertNoLeaks();
    }

    private static void AssertUndisposed(NativeLeakTracker t, string type, int blocks, string test)
    {
        NativeLeakReport report = t.GetReport();
        Assert.That(report.Leaks, Has.Count.EqualTo(1), report.ToText());
        LeakGroup leak = report.Leaks[0];
        Assert.That((leak.Verdict, leak.How, leak.FinalizedType), Is.EqualTo(("undisposed", "finalizer", type)));
        Assert.That((leak.Blocks, leak.Bytes), Is.EqualTo((blocks, (long)blocks * Size)));
        Assert.That(leak.Stack.Select(frame => frame.Method), Has.Some.Contains(test));
        Assert.That(Assert.Throws<NativeLeakException>(t.AssertNoLeaks)!.Message, Does.Contain(type[(type.LastIndexOf('.') + 1)..]));
    }

    private static void Collect()
    {
        for (var i = 0; i < 3; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
    }

    // In a frame of its own, on a thread of its own: no register and no local of the test still has it.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Forget(Func<object> make)
    {
        var thread = new Thread(() => GC.KeepAlive(make()));
        thread.Start();
        thread.Join();
    }

    private sealed class BlockHandle : SafeHandle
    {
        public BlockHandle(int size)
            : base(0, ownsHandle: true) => SetHandle(Marshal.AllocHGlobal(size));

        public override bool IsInvalid => handle == 0;

        protected override bool ReleaseHandle()
        {
            Marshal.FreeHGlobal(handle);
            return true;
        }
    }

    private sealed class Buffer(int size)
    {
        private readonly nint _block = Marshal.AllocHGlobal(size);

        ~Buffer() => Marshal.FreeHGlobal(_block);
    }

    /// <summary>Only when it has been finalized can the next one be collected.</summary>
    private sealed class Chained(Chained? next)
    {
        private readonly nint _block = Marshal.AllocHGlobal(Size);
        private GCHandle _next = next is null ? default : GCHandle.Alloc(next);

        ~Chained()
        {
            Marshal.FreeHGlobal(_block);
            if (_next.IsAllocated)
            {
                _next.Free();
            }
        }
    }

    private sealed class Stubborn(ManualResetEventSlim release)
    {
        ~Stubborn() => release.Wait(TimeSpan.FromSeconds(30));
    }
}
