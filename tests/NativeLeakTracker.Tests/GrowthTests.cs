using System.Runtime.InteropServices;

namespace NativeLeaks.Tests;

/// <summary>What grows with every round fails; what is made once, or up to a bound, does not.</summary>
[TestFixture]
[NonParallelizable]
public sealed class GrowthTests
{
    private readonly List<nint> _kept = [];

    [TearDown]
    public void Free_the_blocks()
    {
        _kept.ForEach(Marshal.FreeHGlobal);
        _kept.Clear();
    }

    [Test]
    public void One_block_a_round_fails_and_tells_how_many_each_round_left()
    {
        var thrown = Assert.Throws<NativeLeakException>(() => NativeLeakTracker.AssertNoGrowth(() => Keep(100)))!;

        LeakGroup leak = thrown.Report.Leaks.Single();
        Assert.That((leak.Blocks, leak.Bytes), Is.EqualTo((5, 500)));
        Assert.That(leak.BlocksPerRound, Is.EqualTo((long[])[1, 1, 1, 1, 1]));
        Assert.That(leak.Stack.Select(frame => frame.Method), Has.Some.Contains(nameof(One_block_a_round_fails_and_tells_how_many_each_round_left)));
        Assert.That(thrown.Message, Does.Contain("in 5 rounds"));
    }

    [Test]
    public async Task Growth_of_an_async_body_is_found()
    {
        var thrown = (await Assert.ThrowsAsync<NativeLeakException>(() => NativeLeakTracker.AssertNoGrowthAsync(async () =>
        {
            await Task.Yield();
            Keep(100);
            await Task.Run(() => Keep(200));
        })))!;

        Assert.That(thrown.Report.Leaks.Select(leak => leak.Bytes).Order(), Is.EqualTo((long[])[500, 1000]));
    }

    [Test]
    public void Body_that_frees_what_it_allocates_passes()
    {
        var rounds = 0;
        NativeLeakTracker.AssertNoGrowth(
            () =>
            {
                rounds++;
                Marshal.FreeHGlobal(Marshal.AllocHGlobal(100));
            },
            rounds: 4,
            warmUp: 2);

        Assert.That(rounds, Is.EqualTo(6));
    }

    [Test]
    public async Task Async_body_that_frees_what_it_allocates_passes() => await NativeLeakTracker.AssertNoGrowthAsync(async () =>
    {
        var block = Marshal.AllocHGlobal(100);
        await Task.Yield();
        Marshal.FreeHGlobal(block);
    });

    [Test]
    public void Block_that_is_made_once_passes()
    {
        NativeLeakTracker.AssertNoGrowth(() =>
        {
            if (_kept.Count == 0)
            {
                Keep(100);
            }
        });
    }

    [Test]
    public void Cache_that_is_full_after_the_warm_up_passes()
    {
        NativeLeakTracker.AssertNoGrowth(() =>
        {
            if (_kept.Count < 3)
            {
                Keep(100);
            }
        });
    }

    [Test]
    public void Stack_that_skips_a_round_passes()
    {
        var round = 0;
        NativeLeakTracker.AssertNoGrowth(() =>
        {
            if (round++ != 5)
            {
                Keep(100);
            }
        });
    }

    // A list that doubles: one block, resized.
    [Test]
    public void Block_that_is_resized_in_every_round_grows_in_bytes()
    {
        var block = Marshal.AllocHGlobal(10);
        var size = 10;
        var thrown = Assert.Throws<NativeLeakException>(() => NativeLeakTracker.AssertNoGrowth(() =>
        {
            if (_kept.Count == 0)
            {
                Keep(10);
            }

            _kept[0] = Marshal.ReAllocHGlobal(_kept[0], size += 100);
        }))!;
        Marshal.FreeHGlobal(block);

        Assert.That(thrown.Report.LeakedBytes, Is.EqualTo(500), thrown.Message);
        Assert.That(thrown.Report.Leaks.Single().BlocksPerRound, Is.All.Zero);
    }

    [Test]
    public void Undisposed_handle_in_every_round_fails_though_its_finalizer_released_it()
    {
        var thrown = Assert.Throws<NativeLeakException>(() => NativeLeakTracker.AssertNoGrowth(() =>
        {
            var thread = new Thread(() => GC.KeepAlive(new Finalized()));
            thread.Start();
            thread.Join();
        }))!;

        LeakGroup leak = thrown.Report.Leaks.Single();
        Assert.That((leak.Verdict, leak.How, leak.Blocks), Is.EqualTo(("undisposed", "finalizer", 5)), thrown.Message);
        Assert.That(leak.FinalizedType, Does.EndWith("Finalized"));
    }

    [Test]
    public void Method_that_is_compiled_anew_between_the_rounds_still_grows()
    {
        var thrown = Assert.Throws<NativeLeakException>(() => NativeLeakTracker.AssertNoGrowth(
            () =>
            {
                for (var i = 0; i < 40; i++)
                {
                    Step(i == 0);
                }

                // Long enough for the runtime to compile what was called thirty times.
                Thread.Sleep(60);
            },
            rounds: 8,
            warmUp: 1))!;

        Assert.That(thrown.Report.LeakedBlocks, Is.EqualTo(8), thrown.Message);
    }

    [Test]
    public void Limits_are_for_one_round()
    {
        var options = new NativeLeakOptions { MaxBlocksPerStack = 2 };
        NativeLeakTracker.AssertNoGrowth(() => { Keep(10); Keep(10); }, options: options);

        Assert.Throws<NativeLeakException>(() => NativeLeakTracker.AssertNoGrowth(
            () =>
            {
                for (var i = 0; i < 3; i++)
                {
                    Keep(10);
                }
            },
            options: options));
    }

    [Test]
    public async Task What_the_body_throws_is_thrown()
    {
        Assert.Throws<InvalidCastException>(() => NativeLeakTracker.AssertNoGrowth(() => throw new InvalidCastException()));
        await Assert.ThrowsAsync<InvalidCastException>(() => NativeLeakTracker.AssertNoGrowthAsync(() => throw new InvalidCastException()));
    }

    [Test]
    public void Rounds_that_show_nothing_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => NativeLeakTracker.AssertNoGrowth(() => { }, rounds: 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => NativeLeakTracker.AssertNoGrowth(() => { }, warmUp: -1));
        Assert.Throws<ArgumentNullException>(() => NativeLeakTracker.AssertNoGrowth(null!));
    }

    private void Step(bool leaks)
    {
        if (leaks)
        {
            Keep(100);
        }
    }

    private void Keep(int size)
    {
        var block = Marshal.AllocHGlobal(size);
        lock (_kept)
        {
            _kept.Add(block);
        }
    }

    private sealed class Finalized
    {
        private readonly nint _block = Marshal.AllocHGlobal(100);

        ~Finalized() => Marshal.FreeHGlobal(_block);
    }
}
