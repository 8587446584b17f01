using System.Runtime.InteropServices;
using System.Text.Json;
using NativeLeaks.Adapters;

namespace NativeLeaks.Tests;

/// <summary>What a scope covers: the flow in which it was started, with all that the flow starts, and nothing else.</summary>
/// <remarks>Each test keeps blocks of sizes that nobody else asks for, and frees them at its end.</remarks>
[TestFixture]
[NonParallelizable]
public sealed class ScopeTests
{
    private const int Size = 12_345;
    private readonly Lock _gate = new();
    private readonly List<nint> _blocks = []; // inverted: a list of addresses would keep the blocks

    [TearDown]
    public void Free_the_blocks()
    {
        _blocks.ForEach(static b => Free(~b));
        _blocks.Clear();
    }

    [Test]
    public void Block_that_is_kept_is_a_leak_and_one_that_is_freed_is_none()
    {
        using var t = NativeLeakTracker.Start(new NativeLeakOptions { Strict = true });
        var block = ~Keep(Size); // inverted: a local would hold it

        AssertLeaks(t, Size);
        var thrown = Assert.Throws<NativeLeakException>(t.AssertNoLeaks)!;
        Assert.That(thrown.Message.Split('\n')[0], Is.EqualTo(thrown.Report.ToText().Split('\n')[0]));
        Assert.That(thrown.Message, Does.StartWith("1 native leak: 1 block, 12,345 bytes allocated since Start() were not freed."));

        Release(~block);
        t.AssertNoLeaks();
    }

    [Test]
    public void Blocks_of_an_inner_scope_count_for_the_outer_ones_too()
    {
        using var outer = NativeLeakTracker.Start();
        Keep(Size);
        using (var inner = NativeLeakTracker.Start())
        {
            Keep(Size + 1);
            using (var innermost = NativeLeakTracker.Start())
            {
                Keep(Size + 2);
                AssertLeaks(innermost, Size + 2);
            }

            Keep(Size + 3);
            AssertLeaks(inner, Size + 1, Size + 2, Size + 3);
            AssertLeaks(outer, Size, Size + 1, Size + 2, Size + 3);
        }

        Keep(Size + 4);
        AssertLeaks(outer, Size, Size + 1, Size + 2, Size + 3, Size + 4);
    }

    [Test]
    public void Scopes_may_be_closed_in_any_order()
    {
        using var outer = NativeLeakTracker.Start();
        using var inner = NativeLeakTracker.Start();
        Keep(Size);
        outer.Dispose();
        Keep(Size + 1);

        AssertLeaks(inner, Size, Size + 1);
    }

    [Test]
    public void What_is_older_than_the_scope_is_not_blamed_on_it()
    {
        using var outer = NativeLeakTracker.Start();
        Keep(Size);
        using var inner = NativeLeakTracker.Start();

        inner.AssertNoLeaks();
    }

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

    [Test]
    public void Dispose_may_be_called_twice_and_by_many_at_once()
    {
        using var outer = NativeLeakTracker.Start();
        var inner = NativeLeakTracker.Start();

        inner.Dispose();
        inner.Dispose();
        Parallel.For(0, 10, _ => inner.Dispose());

        Assert.That(inner.IsActive, Is.False);
        Assert.That(outer.IsActive, Is.True);
        Keep(Size);
        AssertLeaks(outer, Size);
    }

    [Test]
    public void After_Dispose_there_is_nothing_to_ask()
    {
        var t = NativeLeakTracker.Start();
        t.Dispose();

        Assert.Throws<ObjectDisposedException>(t.AssertNoLeaks);
        Assert.Throws<ObjectDisposedException>(() => t.GetReport());
    }

    [Test]
    public void Reallocated_block_stays_in_its_scope()
    {
        using var outer = NativeLeakTracker.Start();
        nint block;
        using (var inner = NativeLeakTracker.Start())
        {
            block = Keep(Size);
            block = Resize(block, Size * 100);
            AssertLeaks(inner, Size * 100);

            // Also when somebody else resizes it: the block is the same.
            var thread = new Thread(() => block = Resize(block, Size + 1));
            using (ExecutionContext.SuppressFlow())
            {
                thread.Start();
            }

            thread.Join();
            AssertLeaks(inner, Size + 1);
        }

        block = Resize(block, Size + 2);
        AssertLeaks(outer, Size + 2);
        Release(block);
        outer.AssertNoLeaks();
    }

    [Test]
    public void Reallocation_of_an_older_block_is_not_blamed([Values] bool recorded)
    {
        using var earlier = recorded ? NativeLeakTracker.Start() : null;
        var block = Keep(Size);
        using var t = NativeLeakTracker.Start();

        block = Resize(block, Size * 100);
        block = Resize(block, Size + 1);

        t.AssertNoLeaks();
        if (earlier is not null)
        {
            AssertLeaks(earlier, Size + 1);
        }
    }

    [Test]
    public void Reallocation_that_fails_leaves_the_block_as_it_was()
    {
        using var t = NativeLeakTracker.Start();
        var block = Keep(Size);

        Assert.Throws<OutOfMemoryException>(() => Reallocate(block, nuint.MaxValue / 2));

        AssertLeaks(t, Size);
    }

    [TestCase(1)]
    [TestCase(31)]
    [TestCase(32_766)]
    [TestCase(32_767)]
    [TestCase(32_768)]
    [TestCase(1 << 20)]
    [TestCase(100_000_000)]
    public void Sizes_are_exact(int size)
    {
        using var t = NativeLeakTracker.Start();
        Keep(size);
        Keep(size);

        AssertLeaks(t, size, size);
    }

    // Without a loop whose blocks count for nothing the figure is the process's, in which the runtime allocates when it
    // pleases. That happens now and then; that it happens each time would mean that the figure is wrong.
    [Test]
    public void Statistics_grow_and_shrink_by_exactly_what_was_allocated_and_freed()
    {
        using var t = NativeLeakTracker.Start();
        const int Blocks = 1000;
        var blocks = new nint[Blocks];
        List<(NativeLeakStatistics Grown, NativeLeakStatistics Shrunk)> tries = [];
        NativeLeakStatistics grown = new(Blocks, Blocks * Size, Blocks, Blocks * Size);
        NativeLeakStatistics shrunk = new(-Blocks, -Blocks * Size, 0, 0);

        for (var i = 0; i < 50 && !tries.Contains((grown, shrunk)); i++)
        {
            var before = NativeLeakTracker.Statistics;
            for (var block = 0; block < Blocks; block++)
            {
                blocks[block] = Allocate(Size);
            }

            var between = NativeLeakTracker.Statistics;
            for (var block = 0; block < Blocks; block++)
            {
                Free(blocks[block]);
            }

            var after = NativeLeakTracker.Statistics;
            tries.Add((Difference(between, before), Difference(after, between)));
        }

        Assert.That(tries, Does.Contain((grown, shrunk)));
    }

    [Test]
    public void Nothing_is_recorded_while_no_scope_is_open()
    {
        List<long> recorded = [];
        for (var i = 0; i < 50 && !recorded.Contains(0); i++)
        {
            var before = NativeLeakTracker.Statistics.AllocatedBlocks;
            Release(Keep(Size));
            recorded.Add(NativeLeakTracker.Statistics.AllocatedBlocks - before);
        }

        Assert.That(recorded, Does.Contain(0));
    }

    [Test]
    public void Report_as_JSON_has_the_fields_of_the_contract()
    {
        using var t = NativeLeakTracker.Start(new NativeLeakOptions { Strict = true });
        Keep(Size);
        using var stream = new MemoryStream();

        t.GetReport().WriteJson(stream);

        Assert.That(stream.CanWrite, Is.True, "the stream was closed");
        using var document = JsonDocument.Parse(stream.ToArray());
        var root = document.RootElement;
        Assert.That(root.GetProperty("schema").GetString(), Is.EqualTo("nativeleaks-report/1"));
        AssertFields(root, "process", "pid", "command", "runtime", "started", "durationMs");
        AssertFields(root, "capture", "mode", "stacks", "dropped", "truncated", "unseenImports", "endedBy");
        AssertFields(root, "totals", "liveBlocks", "liveBytes", "allocatedBlocks", "allocatedBytes");
        Assert.That(root.GetProperty("process").GetProperty("pid").GetInt32(), Is.EqualTo(Environment.ProcessId));
        Assert.That(root.GetProperty("process").GetProperty("started").GetDateTimeOffset().Offset, Is.EqualTo(TimeSpan.Zero));
        Assert.That(root.GetProperty("capture").GetProperty("mode").GetString(), Is.EqualTo("late"));
        Assert.That(root.GetProperty("capture").GetProperty("endedBy").GetString(), Is.EqualTo("running"));
        Assert.That(root.GetProperty("kept").GetArrayLength(), Is.Zero);

        var leak = root.GetProperty("leaks").EnumerateArray().Single();
        Assert.That(
            (leak.GetProperty("verdict").GetString(), leak.GetProperty("how").GetString()),
            Is.AnyOf(("lost", (string?)null), ("undisposed", "stack")), $"a slot of this stack may still have its address: {leak}");
        Assert.That(leak.GetProperty("blocks").GetInt32(), Is.EqualTo(1));
        Assert.That(leak.GetProperty("bytes").GetInt32(), Is.EqualTo(Size));
        Assert.That(leak.GetProperty("api").GetString(), Does.Contain("NativeMemory.Alloc"));
        Assert.That(leak.GetProperty("allocator").GetString(), Is.EqualTo("System.Private.CoreLib.dll"));
        Assert.That(leak.GetProperty("owner").GetString(), Is.EqualTo("NativeLeakTracker.Tests.dll"));
        foreach (var frame in leak.GetProperty("stack").EnumerateArray())
        {
            Assert.That(frame.GetProperty("kind").GetString(), Is.AnyOf("native", "managed", "runtime"));
            Assert.That(frame.TryGetProperty("method", out _) && frame.TryGetProperty("module", out _), Is.True);
            Assert.That(frame.GetProperty("inferred").ValueKind, Is.AnyOf(JsonValueKind.True, JsonValueKind.False));
            Assert.That(frame.TryGetProperty("file", out _) && frame.TryGetProperty("line", out _), Is.True);
        }

        foreach (var excluded in root.GetProperty("excluded").EnumerateArray())
        {
            Assert.That(
                excluded.GetProperty("reason").GetString(),
                Is.AnyOf("runtime", "suppressed", "ignored", "otherScope", "limit", "filter"));
            Assert.That(excluded.TryGetProperty("rule", out _), Is.True);
            Assert.That(excluded.GetProperty("blocks").GetInt64(), Is.Positive);
            Assert.That(excluded.GetProperty("bytes").GetInt64(), Is.Not.Negative);
        }
    }

    private static void AssertFields(JsonElement root, string name, params string[] fields)
    {
        foreach (var field in fields)
        {
            Assert.That(root.GetProperty(name).TryGetProperty(field, out var value), Is.True, $"{name}.{field}");
            Assert.That(value.ValueKind, Is.EqualTo(JsonValueKind.String).Or.EqualTo(JsonValueKind.Number));
        }
    }

    /// <summary>Asserts that exactly blocks of these sizes are leaks.</summary>
    private static void AssertLeaks(NativeLeakTracker t, params int[] sizes)
    {
        // What holds a block is not what these tests are about: in a process that has run for long, a stale word may.
        var report = t.GetReport();
        Assert.That(
            (report.LeakedBlocks + report.Kept.Sum(static k => k.Blocks), report.LeakedBytes + report.Kept.Sum(static k => k.Bytes)),
            Is.EqualTo((sizes.Length, sizes.Sum(size => (long)size))),
            report.ToText());
    }

    private static NativeLeakStatistics Difference(NativeLeakStatistics a, NativeLeakStatistics b) => new(
        a.LiveBlocks - b.LiveBlocks,
        a.LiveBytes - b.LiveBytes,
        a.AllocatedBlocks - b.AllocatedBlocks,
        a.AllocatedBytes - b.AllocatedBytes);

    private static long OfReason(NativeLeakTracker t, string reason) =>
        t.GetReport().Excluded.Where(excluded => excluded.Reason == reason).Sum(excluded => excluded.Bytes);

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

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private static unsafe nint Allocate(int size) => (nint)NativeMemory.Alloc((nuint)size);

    private static unsafe nint Reallocate(nint block, nuint size) => (nint)NativeMemory.Realloc((void*)block, size);

    private static unsafe void Free(nint block) => NativeMemory.Free((void*)block);

    private nint Keep(int size)
    {
        var block = Allocate(size);
        lock (_gate)
        {
            _blocks.Add(~block);
        }

        return block;
    }

    private nint Resize(nint block, int size)
    {
        var resized = Reallocate(block, (nuint)size);
        lock (_gate)
        {
            _blocks.Remove(~block);
            _blocks.Add(~resized);
        }

        return resized;
    }

    private void Release(nint block)
    {
        lock (_gate)
        {
            _blocks.Remove(~block);
        }

        Free(block);
    }
}
