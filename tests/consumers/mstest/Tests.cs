using Microsoft.VisualStudio.TestTools.UnitTesting;
using NativeLeaks;

[assembly: Parallelize(Workers = 4, Scope = ExecutionScope.MethodLevel)]
[assembly: NativeLeakSettings(MinBlockBytes = 100)]

namespace Consumer;

[NativeLeakTestClass]
public sealed class ClassLevel
{
    [TestMethod]
    public void Leaks_101() => Memory.Forget(101);

    [TestMethod]
    public void Frees() => Memory.TakeAndFree(102);

    [TestMethod]
    public async Task Async_leaks_103()
    {
        await Task.Delay(1, CancellationToken.None);
        Memory.Forget(103);
    }

    [TestMethod]
    public async Task Async_frees()
    {
        nint block = Memory.Take(104);
        await Task.Delay(1, CancellationToken.None);
        Memory.Free(block);
    }

    [TestMethod]
    [DataRow(105, true)]
    [DataRow(106, false)]
    public void Case(int bytes, bool frees)
    {
        nint block = Memory.Take(bytes);
        if (frees)
        {
            Memory.Free(block);
        }
    }

    [TestMethod]
    public void Fails_and_leaks_107()
    {
        Memory.Forget(107);
        Assert.Fail("its own failure");
    }

    [TestMethod]
    public void Assembly_settings_allow_99_bytes() => Memory.Forget(99);

    [TestMethod, NativeLeakSettings(MaxBytesPerStack = 111)]
    public void Method_settings_allow_111_bytes() => Memory.Forget(111);
}

[NativeLeakTestClass]
public sealed class InitializeAndCleanup : IDisposable
{
    private readonly nint _ofConstructor = Memory.Take(201);
    private nint _block;

    public required TestContext TestContext { get; init; }

    [TestInitialize]
    public async Task Take()
    {
        await Task.Yield();
        _block = Memory.Take(202);
    }

    [TestCleanup]
    public void Free()
    {
        if (TestContext.TestName != nameof(Cleanup_leaks_202))
        {
            Memory.Free(_block);
        }
    }

    public void Dispose() => Memory.Free(_ofConstructor);

    [TestMethod]
    public void Cleanup_frees_what_initialize_took()
    {
    }

    [TestMethod]
    public void Cleanup_leaks_202()
    {
    }
}

[TestClass]
public sealed class MethodLevel
{
    private static int s_tried;

    [NativeLeakTestMethod]
    public void Method_level_leaks_301() => Memory.Forget(301);

    [NativeLeakTestMethod]
    public void Method_level_frees() => Memory.TakeAndFree(302);

    [NativeLeakTestMethod, Retry(2)]
    public void Second_try_frees()
    {
        if (++s_tried == 1)
        {
            Memory.Forget(303);
        }
    }

    [TestMethod]
    public void Not_judged() => Memory.Forget(304);
}

/// <summary>One in ten leaks.</summary>
[NativeLeakTestClass]
public sealed class Parallel
{
    public static IEnumerable<object[]> Numbers => Enumerable.Range(0, 50).Select(number => new object[] { number });

    [TestMethod]
    [DynamicData(nameof(Numbers))]
    public async Task Number(int number)
    {
        nint block = await Task.Run(() => Memory.Take(1_000 + number), CancellationToken.None);
        await Task.Delay(5, CancellationToken.None);
        if (number % 10 != 0)
        {
            Memory.Free(block);
        }
    }
}
