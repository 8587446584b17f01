using NativeLeaks.Adapters;

namespace NativeLeaks.Tests;

/// <summary>Whose a block is: the scope's in whose flow it was made, with all that the flow starts, and no other's.</summary>
[TestFixture]
[NonParallelizable]
public sealed class FlowScopeTests : KeptBlocks
{
    [Test]
    public async Task Parallel_flows_do_not_blame_each_other()
    {
        const int Flows = 4;
        using var started = new Barrier(Flows);
        using var allocated = new Barrier(Flows);

        // Each on a thread of its own: they wait for each other.
        await Task.WhenAll(Enumerable.Range(0, Flows).Select(flow => Task.Factory.StartNew(
            () =>
            {
                using var t = NativeLeakTracker.Start();
                started.SignalAndWait();
                for (var i = 0; i < 100; i++)
                {
                    Keep(Size + flow);
                }

                allocated.SignalAndWait();
                AssertLeaks(t, [.. Enumerable.Repeat(Size + flow, 100)]);
            },
            CancellationToken.None,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default)));
    }

    [Test]
    public async Task Task_Run_inside_a_scope_is_blamed_on_it()
    {
        using var t = NativeLeakTracker.Start();

        await Task.Run(async () =>
        {
            Keep(Size);
            await Task.Yield();
            Keep(Size + 1);
        });
        await Task.Yield();
        Keep(Size + 2);

        AssertLeaks(t, Size, Size + 1, Size + 2);
    }

    [Test]
    public void New_thread_inside_a_scope_is_blamed_on_it()
    {
        using var t = NativeLeakTracker.Start();

        var thread = new Thread(() => Keep(Size));
        thread.Start();
        thread.Join();

        AssertLeaks(t, Size);
    }

    [Test]
    public void Timer_inside_a_scope_is_blamed_on_it()
    {
        using var t = NativeLeakTracker.Start();

        using var done = new ManualResetEventSlim();
        using (var timer = new Timer(_ =>
        {
            Keep(Size);
            done.Set();
        }))
        {
            timer.Change(0, Timeout.Infinite);
            done.Wait();
        }

        AssertLeaks(t, Size);
    }

    [Test]
    public void Parallel_loop_inside_a_scope_is_blamed_on_it()
    {
        using var t = NativeLeakTracker.Start();

        Parallel.For(0, 100, _ => Keep(Size));

        AssertLeaks(t, [.. Enumerable.Repeat(Size, 100)]);
    }

    [Test]
    public void Thread_outside_of_every_scope_is_blamed_on_nobody_and_listed()
    {
        using var go = new ManualResetEventSlim();
        var thread = new Thread(() =>
        {
            go.Wait();
            Keep(Size);
        });
        thread.Start();
        using var t = NativeLeakTracker.Start();
        go.Set();
        thread.Join();

        var report = t.GetReport();
        Assert.That(report.Leaks, Is.Empty, report.ToText());
        Assert.That(
            report.Excluded.Where(excluded => excluded.Reason == "otherScope").Sum(excluded => excluded.Bytes),
            Is.AtLeast(Size));
    }

    [Test]
    public void Flow_that_outlives_its_scope_is_blamed_on_nobody()
    {
        using var go = new ManualResetEventSlim();
        Thread thread;
        using (NativeLeakTracker.Start())
        {
            thread = new Thread(() =>
            {
                go.Wait();
                Keep(Size);
            });
            thread.Start();
        }

        using var next = NativeLeakTracker.Start();
        go.Set();
        thread.Join();

        next.AssertNoLeaks();
    }

    // A framework may run two tests one after the other in one flow: the scope of the first has left no trace.
    [Test]
    public void Scope_that_was_closed_leaves_its_flow_to_the_next()
    {
        using (NativeLeakTracker.Start())
        {
            Keep(Size);
        }

        using var next = NativeLeakTracker.Start();
        Keep(Size + 1);

        AssertLeaks(next, Size + 1);
    }

    [Test]
    public void Flow_that_closed_its_scope_is_outside_of_the_others()
    {
        using var opened = new ManualResetEventSlim();
        using var kept = new ManualResetEventSlim();
        NativeLeakReport? report = null;
        var other = new Thread(() =>
        {
            using var t = NativeLeakTracker.Start();
            opened.Set();
            kept.Wait();
            report = t.GetReport();
        });
        using (NativeLeakTracker.Start())
        {
            using (ExecutionContext.SuppressFlow())
            {
                other.Start();
            }

            opened.Wait();
        }

        Keep(Size);
        kept.Set();
        other.Join();

        Assert.That(report!.Leaks, Is.Empty, report.ToText());
        Assert.That(
            report.Excluded.Where(excluded => excluded.Reason == "otherScope").Sum(excluded => excluded.Bytes),
            Is.AtLeast(Size));
    }

    // An async set-up: what it sets is gone from the flow when it returns, and no adapter helps.
    [Test]
    public async Task Scope_from_an_async_set_up_covers_what_no_other_scope_could_and_says_so()
    {
        using var t = await StartedAsync();

        Keep(Size);

        AssertLeaks(t, Size);
        Assert.That(t.GetReport().Notes, Has.One.Contains("another asynchronous flow"));
    }

    [Test]
    public async Task Scope_from_an_async_set_up_is_blamed_for_nothing_while_others_are_open()
    {
        using var t = await StartedAsync();
        using var other = await StartedAsync();

        Keep(Size);

        Assert.That(t.GetReport().Leaks, Is.Empty, t.GetReport().ToText());
        Assert.That(OfReason(t, "otherScope"), Is.AtLeast(Size));
    }

    [Test]
    public async Task Async_set_up_inside_a_tests_own_scope_covers_the_test()
    {
        using var test = TestScope.Open(NativeLeakOptions.Default);
        using var t = await StartedAsync();
        using var rival = await Task.Run(NativeLeakTracker.Start);

        Keep(Size);
        await Task.Run(() => Keep(Size + 1));

        AssertLeaks(t, Size, Size + 1);
        Assert.That(t.GetReport().Notes, Is.Empty);
        t.Dispose();
        Keep(Size + 2);
        Assert.That(test.Judge()!.Report.LeakedBlocks, Is.EqualTo(3));
    }

    [Test]
    public void Suppressed_flow_is_blamed_on_the_only_scope([Values] bool pool)
    {
        using var t = NativeLeakTracker.Start();

        RunWithoutFlow(() => Keep(Size), pool);

        AssertLeaks(t, Size);
    }

    [Test]
    public void Suppressed_flow_is_blamed_on_nobody_while_several_scopes_are_open([Values] bool before)
    {
        using var t = NativeLeakTracker.Start();
        using var opened = new ManualResetEventSlim();
        using var kept = new ManualResetEventSlim();
        NativeLeakReport? theirs = null;
        var other = new Thread(() =>
        {
            using var rival = NativeLeakTracker.Start();
            opened.Set();
            kept.Wait();
            theirs = rival.GetReport();
        });
        using (ExecutionContext.SuppressFlow())
        {
            other.Start();
        }

        opened.Wait();
        RunWithoutFlow(() => Keep(Size), pool: false);
        NativeLeakReport? ours = before ? t.GetReport() : null;
        kept.Set();
        other.Join();

        // Also when the other has closed its scope: it could have been meant.
        ours ??= t.GetReport();
        Assert.That(ours.Leaks, Is.Empty, ours.ToText());
        Assert.That(theirs!.Leaks, Is.Empty, theirs.ToText());
        RunWithoutFlow(() => Keep(Size + 1), pool: false);
        AssertLeaks(t, Size + 1);
    }

    [Test]
    public void Scope_inside_another_is_no_rival_for_what_no_flow_makes()
    {
        using var outer = NativeLeakTracker.Start();
        using var inner = NativeLeakTracker.Start();

        RunWithoutFlow(() => Keep(Size), pool: false);

        AssertLeaks(inner, Size);
        AssertLeaks(outer, Size);
    }

    [Test]
    public void Timer_that_a_closed_scope_started_is_blamed_on_nobody()
    {
        using var fired = new ManualResetEventSlim();
        Timer timer;
        using (NativeLeakTracker.Start())
        {
            timer = new Timer(_ =>
            {
                Keep(Size);
                fired.Set();
            });
        }

        using (timer)
        {
            using var next = NativeLeakTracker.Start();
            timer.Change(0, Timeout.Infinite);
            fired.Wait();

            next.AssertNoLeaks();
        }
    }

    [Test]
    public void Process_scope_covers_every_flow()
    {
        using var go = new ManualResetEventSlim();
        var older = new Thread(() =>
        {
            go.Wait();
            Keep(Size);
        });
        older.Start();
        using var inFlow = NativeLeakTracker.Start();
        using var t = NativeLeakTracker.Start(new NativeLeakOptions { Scope = NativeLeakScope.Process, MinBlockBytes = Size, Methods = [nameof(Allocate)] });
        go.Set();
        older.Join();
        Keep(Size + 1);
        RunWithoutFlow(() => Keep(Size + 2), pool: true);

        AssertLeaks(t, Size, Size + 1, Size + 2);
    }

    [Test]
    public void Ignored_region_is_blamed_on_nobody_and_listed()
    {
        using var t = NativeLeakTracker.Start();
        Keep(Size);
        using (NativeLeakTracker.Ignore())
        {
            Keep(Size + 1);
            Task.Run(() => Keep(Size + 2)).Wait();
        }

        Keep(Size + 3);

        AssertLeaks(t, Size, Size + 3);
        Assert.That(OfReason(t, "ignored"), Is.EqualTo(Size + 1 + Size + 2));
    }

    [Test]
    public void Scope_inside_an_ignored_region_is_judged()
    {
        using var outer = NativeLeakTracker.Start();
        using var ignored = NativeLeakTracker.Ignore();
        using var t = NativeLeakTracker.Start();
        Keep(Size);

        AssertLeaks(t, Size);
    }

    [Test]
    public void Ignoring_without_a_scope_does_nothing()
    {
        using var ignored = NativeLeakTracker.Ignore();
        using var t = NativeLeakTracker.Start();
        Keep(Size);

        AssertLeaks(t, Size);
    }

    private static async Task<NativeLeakTracker> StartedAsync()
    {
        await Task.Yield();
        return NativeLeakTracker.Start();
    }

    private static void RunWithoutFlow(Action action, bool pool)
    {
        using var done = new ManualResetEventSlim();
        using (ExecutionContext.SuppressFlow())
        {
            if (pool)
            {
                ThreadPool.QueueUserWorkItem(Run);
            }
            else
            {
                new Thread(Run).Start();
            }
        }

        done.Wait();

        void Run(object? state)
        {
            action();
            done.Set();
        }
    }
}
