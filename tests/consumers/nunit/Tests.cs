using NativeLeaks;
using NUnit.Framework;

[assembly: Parallelizable(ParallelScope.All)]
[assembly: LevelOfParallelism(4)]
[assembly: FixtureLifeCycle(LifeCycle.InstancePerTestCase)]

// Other tests leak 1 to 999 bytes; only those of AssemblyLevel have no nearer attribute.
[assembly: AssertNoNativeLeaks]

namespace Consumer;

[AssertNoNativeLeaks]
public sealed class ClassLevel
{
    [Test]
    public void Leaks_101() => Memory.Forget(101);

    [Test]
    public void Frees() => Memory.TakeAndFree(102);

    [Test]
    public async Task Async_leaks_103()
    {
        await Task.Delay(1);
        Memory.Forget(103);
    }

    [Test]
    public async Task Async_frees()
    {
        nint block = Memory.Take(104);
        await Task.Delay(1);
        Memory.Free(block);
    }

    [TestCase(105, true)]
    [TestCase(106, false)]
    public void Case(int bytes, bool frees)
    {
        nint block = Memory.Take(bytes);
        if (frees)
        {
            Memory.Free(block);
        }
    }

    [Test]
    public void Fails_and_leaks_107()
    {
        Memory.Forget(107);
        Assert.Fail("its own failure");
    }

    [Test]
    public void Passes_by_exception_and_leaks_108()
    {
        Memory.Forget(108);
        Assert.Pass("enough");
    }

    // An attribute on the method that wraps it too.
    [Test, MaxTime(600_000)]
    public void Timed_leaks_109() => Memory.Forget(109);

    [Test, MaxTime(600_000)]
    public void Timed_frees() => Memory.TakeAndFree(110);

    [Test, AssertNoNativeLeaks(MaxBytesPerStack = 111)]
    public void Method_level_allows_111_bytes() => Memory.Forget(111);
}

[AssertNoNativeLeaks]
public sealed class SetUpAndTearDown
{
    private nint _block;

    [SetUp]
    public void Take() => _block = Memory.Take(201);

    [TearDown]
    public void Free()
    {
        Memory.Free(_block);
        if (TestContext.CurrentContext.Test.Name == nameof(TearDown_leaks_202))
        {
            Memory.Forget(202);
        }
    }

    [Test]
    public void TearDown_frees_what_SetUp_took()
    {
    }

    [Test]
    public void TearDown_leaks_202()
    {
    }
}

[AssertNoNativeLeaks]
public sealed class AsyncSetUp
{
    [SetUp]
    public async Task Leak()
    {
        await Task.Yield();
        Memory.Forget(203);
    }

    [Test]
    public void Async_SetUp_leaks_203()
    {
    }
}

public sealed class MethodLevel
{
    private static int s_repeated;
    private static int s_tried;

    [Test, AssertNoNativeLeaks]
    public void Method_level_leaks_301() => Memory.Forget(301);

    [Test, AssertNoNativeLeaks, Repeat(3)]
    public void Second_repetition_leaks_302()
    {
        if (++s_repeated == 2)
        {
            Memory.Forget(302);
        }
    }

    [Test, AssertNoNativeLeaks, Retry(2)]
    public void Second_try_frees()
    {
        if (++s_tried == 1)
        {
            Memory.Forget(303);
        }
    }
}

public sealed class AssemblyLevel
{
    [Test]
    public void Assembly_level_leaks_401() => Memory.Forget(401);
}

public sealed class Constraints
{
    [Test]
    public void Constraint_leaks_501() => Assert.That(() => Memory.Forget(501), Leaks.NoNativeMemory);

    [Test]
    public void Constraint_frees() => Assert.That(() => Memory.TakeAndFree(502), Leaks.NoNativeMemory);

    [Test]
    public void Async_constraint_leaks_503() => Assert.That(
        async () =>
        {
            await Task.Yield();
            Memory.Forget(503);
        },
        Leaks.NoNativeMemory);

    [Test]
    public async Task Awaited_constraint_leaks_504() => await Assert.ThatAsync(
        async () =>
        {
            await Task.Yield();
            Memory.Forget(504);
        },
        Leaks.NoNativeMemory);

    [Test, AssertNoNativeLeaks(MaxBytesPerStack = 505)]
    public void Constraint_with_options() =>
        Assert.That(() => Memory.Forget(505), Leaks.NoNativeMemory.Using(new NativeLeakOptions { MaxBytesPerStack = 505 }));

    [Test]
    public void Value_of_the_delegate_does_not_matter() => Assert.That(() => 1 + 1, Leaks.NoNativeMemory);
}

/// <summary>Fifty tests at a time, one in ten of which leaks.</summary>
[AssertNoNativeLeaks]
public sealed class Parallel
{
    [Test]
    public async Task Number([Range(0, 49)] int number)
    {
        nint block = await Task.Run(() => Memory.Take(1_000 + number));
        await Task.Delay(5);
        if (number % 10 != 0)
        {
            Memory.Free(block);
        }
    }
}
