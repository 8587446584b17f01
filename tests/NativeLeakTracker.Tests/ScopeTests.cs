using System.Runtime.InteropServices;
using System.Text.Json;

namespace NativeLeaks.Tests;

/// <summary>What a scope tells of its blocks: from when to when, their sizes, and in which form.</summary>
[TestFixture]
[NonParallelizable]
public sealed class ScopeTests : KeptBlocks
{
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

    private static NativeLeakStatistics Difference(NativeLeakStatistics a, NativeLeakStatistics b) => new(
        a.LiveBlocks - b.LiveBlocks,
        a.LiveBytes - b.LiveBytes,
        a.AllocatedBlocks - b.AllocatedBlocks,
        a.AllocatedBytes - b.AllocatedBytes);
}
