using System.Runtime.InteropServices;

namespace NativeLeaks.Tests;

/// <summary>A tracker that a set-up method starts covers the test, without an adapter.</summary>
[TestFixture(false)]
[TestFixture(true)]
[NonParallelizable]
public sealed class SetUpTests(bool isLeftToTearDown)
{
    private const int Size = 34_567;
    private NativeLeakTracker? _tracker;
    private nint _block;

    [SetUp]
    public void Start() => _tracker = NativeLeakTracker.Start();

    [TearDown]
    public void Judge()
    {
        try
        {
            AssertOnlyTheBlock();
            Marshal.FreeHGlobal(_block);
            _tracker!.AssertNoLeaks();
        }
        finally
        {
            _tracker!.Dispose();
        }
    }

    [Test]
    public void Tracker_from_a_set_up_covers_the_test()
    {
        _block = Marshal.AllocHGlobal(Size);
        if (!isLeftToTearDown)
        {
            AssertOnlyTheBlock();
        }
    }

    [Test]
    public async Task Tracker_from_a_set_up_covers_an_async_test()
    {
        await Task.Yield();
        await Task.Run(() => _block = Marshal.AllocHGlobal(Size));
        if (!isLeftToTearDown)
        {
            AssertOnlyTheBlock();
        }
    }

    private void AssertOnlyTheBlock()
    {
        NativeLeakReport report = _tracker!.GetReport();
        Assert.That((report.LeakedBlocks, report.LeakedBytes), Is.EqualTo((1, Size)), report.ToText());
        Assert.That(report.Notes, Is.Empty);

        // The runner of tests keeps this object, and so its field; that does not make the block one that is meant to stay.
        Assert.That(report.Leaks.Single().Verdict, Is.EqualTo("undisposed"), report.ToText());
    }
}
