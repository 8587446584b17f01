using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using NativeLeaks.Capture;

namespace NativeLeaks.Tests;

[TestFixture]
internal sealed class WrapperLedgerTests
{
    private const string Api = "Marshal.AllocHGlobal(Int32)";

    private WrapperLedger _ledger = null!;
    private bool _needed;

    [SetUp]
    public void OpenALedger()
    {
        _needed = true;
        _ledger = new(() => _needed);
        _ledger.Open();
    }

    [Test]
    public void A_block_is_outstanding_until_it_is_released()
    {
        nint returned = Allocate(0x1000, 48);

        WrapperBlock block = _ledger.Outstanding(0).Single();
        Assert.That(returned, Is.EqualTo((nint)0x1000));
        Assert.That(
            (block.Address, block.SizeBytes, block.Api, block.Family, block.Sequence),
            Is.EqualTo(((nint)0x1000, (long?)48, Api, AllocationFamily.HGlobal, _ledger.Sequence)));

        _ledger.Released(0x1000);
        Assert.That(_ledger.Outstanding(0), Is.Empty);
    }

    [Test]
    public void The_stack_begins_with_the_caller_of_the_wrapper()
    {
        Allocate(0x1000);

        Assert.That(_ledger.Outstanding(0)[0].Stack.GetFrame(0)?.GetMethod()?.Name, Is.EqualTo(nameof(Allocate)));
    }

    [Test]
    public unsafe void Without_the_engine_too_a_wrong_release_is_noted_with_both_stacks_and_made_rightly()
    {
        Assert.That(PairingCheck.TryBegin());
        try
        {
            nint right = AllocateBstr();
            nint wrong = AllocateBstr();
            Assert.That(_ledger.MayRelease(right, ReleaseFunction.FreeBSTR), Is.True);
            Assert.That(_ledger.MayRelease(wrong, ReleaseFunction.FreeCoTaskMem), Is.False);
            System.Runtime.InteropServices.Marshal.FreeBSTR(right);

            WrongRelease release = _ledger.WrongReleases(0).Single();
            Assert.That((release.Block.Address, release.Function), Is.EqualTo((wrong, ReleaseFunction.FreeCoTaskMem)));
            Assert.That(release.Block.Stack.GetFrame(0)?.GetMethod()?.Name, Is.EqualTo(nameof(AllocateBstr)));
            Assert.That(
                release.Stack.GetFrame(0)?.GetMethod()?.Name,
                Is.EqualTo(nameof(Without_the_engine_too_a_wrong_release_is_noted_with_both_stacks_and_made_rightly)));
            Assert.That(_ledger.Outstanding(0), Is.Empty);
        }
        finally
        {
            PairingCheck.End();
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private nint AllocateBstr() => _ledger.Allocated(
        System.Runtime.InteropServices.Marshal.StringToBSTR("text"), 10, "Marshal.StringToBSTR(String)", AllocationFamily.Bstr);

    [Test]
    public void Nothing_is_recorded_before_a_scope_is_open()
    {
        WrapperLedger ledger = new(() => throw new AssertionException("asked although no scope is open"));

        ledger.Allocated(0x1000, 8, "x", AllocationFamily.HGlobal);
        ledger.Released(0x2000);

        Assert.That(ledger.IsOpen, Is.False);
        Assert.That(ledger.Outstanding(0), Is.Empty);
        Assert.That((ledger.Sequence, ledger.UnknownFrees), Is.EqualTo((0L, 0L)));
    }

    [Test]
    public void Recording_lasts_until_the_last_scope_closes_and_then_everything_is_forgotten()
    {
        _ledger.Open();
        Allocate(0x1000);
        _ledger.Close();
        Allocate(0x2000);
        Assert.That(_ledger.Outstanding(0), Has.Count.EqualTo(2));

        _ledger.Close();
        Allocate(0x3000);
        Assert.That(_ledger.Outstanding(0), Is.Empty);

        _ledger.Open();
        Assert.That(_ledger.Outstanding(0), Is.Empty);
    }

    [Test]
    public void A_close_too_many_is_refused_and_does_no_harm()
    {
        _ledger.Close();
        Assert.That(_ledger.Close, Throws.InvalidOperationException);

        _ledger.Open();
        Allocate(0x1000);
        Assert.That(_ledger.Outstanding(0), Has.Count.EqualTo(1));
    }

    [Test]
    public void A_scope_sees_only_what_came_after_its_sequence_number_oldest_first()
    {
        Allocate(0x3000);
        long start = _ledger.Sequence;
        Allocate(0x2000);
        Allocate(0x1000);

        Assert.That(
            _ledger.Outstanding(start).Select(block => block.Address),
            Is.EqualTo(new nint[] { 0x2000, 0x1000 }));
        Assert.That(_ledger.Outstanding(_ledger.Sequence), Is.Empty);
    }

    [Test]
    public void Sequence_numbers_go_on_after_the_last_scope_closed()
    {
        Allocate(0x1000);
        long before = _ledger.Sequence;
        _ledger.Close();
        _ledger.Open();
        Allocate(0x1000);

        Assert.That(_ledger.Outstanding(before), Has.Count.EqualTo(1));
    }

    [Test]
    public void Where_the_native_engine_records_nothing_is_recorded_twice()
    {
        _needed = false;

        Allocate(0x1000);
        _ledger.Released(0x2000);

        Assert.That(_ledger.Outstanding(0), Is.Empty);
        Assert.That(_ledger.UnknownFrees, Is.Zero);
    }

    [Test]
    public void A_block_from_before_the_native_engine_began_is_still_released()
    {
        Allocate(0x1000);
        _needed = false;
        _ledger.Released(0x1000);

        Assert.That(_ledger.Outstanding(0), Is.Empty);
    }

    [Test]
    public void A_free_of_an_unknown_address_is_counted_and_a_free_of_null_is_not()
    {
        _ledger.Released(0x1000);
        _ledger.Released(0);

        Assert.That(_ledger.UnknownFrees, Is.EqualTo(1));
    }

    [Test]
    public void Null_is_no_block()
    {
        Allocate(0);

        Assert.That(_ledger.Outstanding(0), Is.Empty);
        Assert.That(_ledger.Sequence, Is.Zero);
    }

    [Test]
    public void An_address_given_out_again_belongs_to_the_newer_block()
    {
        Allocate(0x1000, 8);
        Allocate(0x1000, 16);

        Assert.That(_ledger.Outstanding(0).Single().SizeBytes, Is.EqualTo(16));
    }

    [Test]
    public void During_a_reallocation_the_old_block_is_not_in_the_table_so_that_its_address_may_be_given_out()
    {
        Allocate(0x1000, 8);

        nint result = _ledger.Reallocated(
            0x1000,
            32,
            0,
            (old, size, alignment) =>
            {
                Assert.That((old, size, alignment), Is.EqualTo(((nint)0x1000, (nuint)32, (nuint)0)));
                Assert.That(_ledger.Outstanding(0), Is.Empty);
                Allocate(0x1000, 64);
                return 0x2000;
            },
            "realloc",
            ReleaseFunction.NativeMemoryRealloc);

        Assert.That(result, Is.EqualTo((nint)0x2000));
        Assert.That(
            _ledger.Outstanding(0).Select(block => (block.Address, block.SizeBytes)),
            Is.EqualTo(new (nint, long?)[] { (0x1000, 64), (0x2000, 32) }));
    }

    [Test]
    public void A_reallocation_that_fails_keeps_the_old_block_as_it_was()
    {
        Allocate(0x1000, 8);
        WrapperBlock before = _ledger.Outstanding(0).Single();

        Assert.That(
            () => _ledger.Reallocated(
                0x1000,
                32,
                0,
                (_, _, _) => throw new InsufficientMemoryException(),
                "realloc",
                ReleaseFunction.ReAllocHGlobal),
            Throws.InstanceOf<InsufficientMemoryException>());

        Assert.That(_ledger.Outstanding(0).Single(), Is.SameAs(before));
    }

    [Test]
    public void A_reallocation_that_fails_after_its_scope_closed_leaves_nothing_in_the_next_scope()
    {
        Allocate(0x1000, 8);

        Assert.That(
            () => _ledger.Reallocated(
                0x1000,
                32,
                0,
                (_, _, _) =>
                {
                    _ledger.Close();
                    _ledger.Open();
                    throw new InsufficientMemoryException();
                },
                "realloc",
                ReleaseFunction.ReAllocHGlobal),
            Throws.InstanceOf<InsufficientMemoryException>());

        Assert.That(_ledger.Outstanding(0), Is.Empty);
    }

    [Test]
    public void A_full_managed_heap_loses_the_record_but_not_the_block()
    {
        _ledger.IsNeeded = () => throw new InsufficientMemoryException();

        Assert.That(Allocate(0x1000), Is.EqualTo((nint)0x1000));
        Assert.That(_ledger.Outstanding(0), Is.Empty);
        Assert.That(_ledger.Dropped, Is.EqualTo(1));
    }

    [Test]
    public void Threads_that_allocate_free_and_reallocate_at_once_leave_exactly_what_they_kept()
    {
        const int Threads = 8;
        const int Steps = 2_000;
        ConcurrentBag<nint> kept = [];
        ConcurrentDictionary<long, bool> sequences = [];

        Parallel.For(0, Threads, thread =>
        {
            Random random = new(thread);
            List<nint> mine = [];
            nint next = (thread + 1) * 0x1000_0000;
            for (int step = 0; step < Steps; step++)
            {
                int what = mine.Count == 0 ? 0 : random.Next(3);
                if (what == 0)
                {
                    mine.Add(Allocate(next += 16));
                    continue;
                }

                int index = random.Next(mine.Count);
                nint old = mine[index];
                mine.RemoveAt(index);
                if (what == 1)
                {
                    _ledger.Released(old);
                }
                else
                {
                    nint moved = next += 16;
                    mine.Add(_ledger.Reallocated(old, 8, 0, (_, _, _) => moved, "realloc", ReleaseFunction.ReAllocHGlobal));
                }
            }

            mine.ForEach(kept.Add);
        });

        IReadOnlyList<WrapperBlock> outstanding = _ledger.Outstanding(0);
        Assert.That(outstanding.Select(block => block.Address), Is.EquivalentTo(kept));
        Assert.That(outstanding.Select(block => block.Sequence), Is.Ordered.Ascending.And.Unique);
        Assert.That(_ledger.UnknownFrees, Is.Zero);
    }

    [Test]
    public void Scopes_opened_and_closed_while_others_allocate_never_show_a_block_of_an_earlier_period()
    {
        _ledger.Close();
        using CancellationTokenSource stop = new();
        Task[] others = [.. Enumerable.Range(0, 4).Select(thread => Task.Run(() =>
        {
            nint next = (thread + 1) * 0x1000_0000;
            while (!stop.IsCancellationRequested)
            {
                Allocate(next += 16);
            }
        }))];

        for (int period = 0; period < 200; period++)
        {
            long before = _ledger.Sequence;
            _ledger.Open();
            Assert.That(_ledger.Outstanding(0).Where(block => block.Sequence <= before), Is.Empty);
            _ledger.Close();
        }

        stop.Cancel();
        Task.WaitAll(others);
        Assert.That(_ledger.Outstanding(0), Is.Empty);
    }

    [Test]
    public void The_ledger_of_the_wrappers_is_needed_where_the_native_engine_does_not_record()
    {
        Assert.That(WrapperLedger.Shared.IsNeeded(), Is.EqualTo(!ShimEngine.IsRecording));
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.NoOptimization)]
    private nint Allocate(nint address, long? sizeBytes = 8)
    {
        nint result = _ledger.Allocated(address, sizeBytes, Api, AllocationFamily.HGlobal);
        return result;
    }
}

/// <summary>
/// While it lives, the wrappers record on their own, whether or not the native engine does too. Not for parallel
/// tests.
/// </summary>
internal sealed class WrappersRecording : IDisposable
{
    private readonly Func<bool> _isNeeded = WrapperLedger.Shared.IsNeeded;
    private readonly long _start = WrapperLedger.Shared.Sequence;

    internal WrappersRecording()
    {
        WrapperLedger.Shared.IsNeeded = () => true;
        WrapperLedger.Shared.Open();
    }

    internal IReadOnlyList<WrapperBlock> Outstanding => WrapperLedger.Shared.Outstanding(_start);

    public void Dispose()
    {
        WrapperLedger.Shared.Close();
        WrapperLedger.Shared.IsNeeded = _isNeeded;
    }
}
