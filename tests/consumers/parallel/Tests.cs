using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using NativeLeaks;
using NUnit.Framework;

[assembly: Parallelizable(ParallelScope.All)]
[assembly: LevelOfParallelism(16)]

/// <summary>
/// Two hundred tests at a time of which every tenth leaks: in the test itself, in tasks, in a timer, on a thread of its own, and in a callback
/// from native code. The blocks of a test have a size that no other test's have.
/// </summary>
public sealed class Tests
{
    // Once at the test's start and once at its end, twice in each of three tasks, in a timer, on a thread and in a callback.
    private const int BlocksOfLeakingTest = 11;

    private static readonly SemaphoreSlim s_mixed = new(0);
    private static int s_running;

    [TestCaseSource(nameof(Numbers))]
    public async Task Number(int number)
    {
        using var t = NativeLeakTracker.Start();
        int size = 10_000 + number;
        bool leaks = number % 10 == 0;

        // Let others begin before this one goes on, so that flows really mix on the threads of the pool.
        if (Interlocked.Increment(ref s_running) % 8 == 0)
        {
            s_mixed.Release(7);
        }
        else
        {
            await s_mixed.WaitAsync(TimeSpan.FromMilliseconds(50));
        }

        Work(size, leaks);
        await Task.WhenAll(Enumerable.Range(0, 3).Select(_ => Task.Run(async () =>
        {
            Work(size, leaks);
            await Task.Yield();
            Work(size, leaks);
        })));
        await InTimer(() => Work(size, leaks));
        InThread(() => Work(size, leaks));
        InCallback(() => Work(size, leaks));
        await Task.Delay(number % 7);
        Work(size, leaks);

        try
        {
            t.AssertNoLeaks();
        }
        catch (NativeLeakException e) when (e.Report.LeakedBlocks != (leaks ? BlocksOfLeakingTest : 0))
        {
            TestContext.Out.WriteLine(e.Report.ToText());
            throw;
        }
    }

    private static IEnumerable<int> Numbers() => Enumerable.Range(0, 200);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Work(int size, bool leaks)
    {
        for (int i = 0; i < 20; i++)
        {
            Marshal.FreeHGlobal(Marshal.AllocHGlobal(size));
        }

        nint block = Marshal.AllocHGlobal(size);
        if (!leaks)
        {
            Marshal.FreeHGlobal(block);
        }
    }

    private static async Task InTimer(Action action)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var timer = new Timer(
            _ =>
            {
                action();
                done.SetResult();
            },
            null,
            1,
            Timeout.Infinite);
        await done.Task;
    }

    private static void InThread(Action action)
    {
        var thread = new Thread(() => action());
        thread.Start();
        thread.Join();
    }

    private static unsafe void InCallback(Action action)
    {
        s_action = action;
        int* numbers = stackalloc int[2];
        qsort(numbers, 2, sizeof(int), &Compare);
    }

    [ThreadStatic]
    private static Action? s_action;

    [UnmanagedCallersOnly]
    private static unsafe int Compare(void* left, void* right)
    {
        Action? action = s_action;
        s_action = null;
        action?.Invoke();
        return 0;
    }

    [DllImport("libc")]
    private static extern unsafe void qsort(void* start, nuint count, nuint size, delegate* unmanaged<void*, void*, int> compare);
}
