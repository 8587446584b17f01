using NativeLeaks;
using Xunit;

// Only the tests of AssemblyLevel have no nearer attribute.
[assembly: AssertNoNativeLeaks]

namespace Consumer;

[AssertNoNativeLeaks]
public sealed class ClassLevel
{
    [Fact]
    public void Leaks_101() => Memory.Forget(101);

    [Fact]
    public void Frees() => Memory.TakeAndFree(102);

    [Fact]
    public async Task Async_leaks_103()
    {
        await Task.Delay(1, TestContext.Current.CancellationToken);
        Memory.Forget(103);
    }

    [Fact]
    public async Task Async_frees()
    {
        nint block = Memory.Take(104);
        await Task.Delay(1, TestContext.Current.CancellationToken);
        Memory.Free(block);
    }

    [Theory]
    [InlineData(105, true)]
    [InlineData(106, false)]
    public void Case(int bytes, bool frees)
    {
        nint block = Memory.Take(bytes);
        if (frees)
        {
            Memory.Free(block);
        }
    }

    [Fact]
    public void Fails_and_leaks_107()
    {
        Memory.Forget(107);
        Assert.Fail("its own failure");
    }

    [Fact, AssertNoNativeLeaks(MaxBytesPerStack = 111)]
    public void Method_level_allows_111_bytes() => Memory.Forget(111);
}

public sealed class MethodLevel
{
    [Fact, AssertNoNativeLeaks]
    public void Method_level_leaks_301() => Memory.Forget(301);
}

public sealed class AssemblyLevel
{
    [Fact]
    public void Assembly_level_leaks_401() => Memory.Forget(401);
}

/// <summary>Constructor and Dispose are covered by a tracker of the test class itself, as docs/testing.md has it.</summary>
public sealed class ConstructorAndDispose : IDisposable
{
    private readonly NativeLeakTracker _tracker = NativeLeakTracker.Start();
    private readonly nint _block = Memory.Take(201);
    private bool _forgets;

    [Fact]
    public void Dispose_frees_what_the_constructor_took()
    {
    }

    [Fact]
    public void Dispose_leaks_201() => _forgets = true;

    public void Dispose()
    {
        if (!_forgets)
        {
            Memory.Free(_block);
        }

        using (_tracker)
        {
            _tracker.AssertNoLeaks();
        }
    }
}

// Classes run in parallel, the tests of a class do not.
public abstract class Parallel
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [AssertNoNativeLeaks]
    public async Task Number(int number)
    {
        nint block = await Task.Run(() => Memory.Take(1_000 + number), TestContext.Current.CancellationToken);
        await Task.Delay(5, TestContext.Current.CancellationToken);
        if (number != 0)
        {
            Memory.Free(block);
        }
    }
}

public sealed class ParallelA : Parallel;

public sealed class ParallelB : Parallel;

public sealed class ParallelC : Parallel;
