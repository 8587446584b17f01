using System.Runtime.InteropServices;
using NativeLeaks.Capture;
using NativeLeaks.Heap;

namespace NativeLeaks.Tests.Heap;

[TestFixture]
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed unsafe partial class ProgramStacksTests
{
    [Test]
    public void The_runtimes_threads_are_told_from_those_on_which_the_program_runs()
    {
        using var ready = new CountdownEvent(3);
        using var done = new ManualResetEventSlim();
        List<int> programs = [];
        Thread[] threads = [Started(done.Wait), Started(() => SpinUntil(done)), Started(() => WaitInLibrary(done))];
        nint native = NativeThread();
        ready.Wait();
        Thread.Sleep(20); // so that they are where they wait

        StackPlace asked = StackPlace.Here();
        using (FrozenCopy copy = FrozenCopy.TryMake(out string? reason) ?? throw new InvalidOperationException(reason))
        using (var words = new FrozenWords(copy))
        {
            var stacks = new ProgramStacks(copy, words, asked);
            ThreadArea[] areas = ThreadAreas.Of(copy, static _ => null);
            int[] found = [.. areas.Where(area => stacks.PartOf(area) is null).Select(static area => area.Thread.Id)];
            string[] names = [.. found.Select(static id => File.ReadAllText($"/proc/self/task/{id}/comm").TrimEnd())];
            Assert.That(found, Is.Not.Empty);
            Assert.That(names, Is.All.StartsWith(".NET "), "no thread of the program's is the runtime's");
            Assert.That(names, Does.Contain(".NET SynchManag"), "a thread of the runtime's that never runs anything else");
            Assert.That(found.Intersect([.. programs, gettid()]), Is.Empty);

            // Main() was called by the runtime, and that by its host.
            ThreadArea main = areas.Single(static area => area.Thread.Id == Environment.ProcessId);
            AddressRange part = stacks.PartOf(main)!.Value;
            Assert.That(part.Start, Is.EqualTo(main.Stack.Start));
            Assert.That(part.End, Is.GreaterThan(part.Start).And.LessThan(main.Stack.End));

            // All of its frames count.
            ThreadArea caller = areas.Single(static area => area.Thread.IsCaller);
            Assert.That(stacks.PartOf(caller)!.Value.Contains((ulong)&native));
            Assert.That(stacks.PartOf(caller)!.Value.End, Is.LessThan(caller.Stack.End));
        }

        done.Set();
        Array.ForEach(threads, static thread => thread.Join());
        Assert.That(pthread_cancel(native), Is.Zero);
        Assert.That(pthread_join(native, 0), Is.Zero);

        // With a name that does not tell them from the runtime's.
        Thread Started(Action wait)
        {
            var thread = new Thread(() =>
            {
                lock (programs)
                {
                    programs.Add(gettid());
                }

                ready.Signal();
                wait();
            })
            {
                Name = ".NET of the program",
            };
            thread.Start();
            return thread;
        }
    }

    private static void SpinUntil(ManualResetEventSlim done)
    {
        while (!done.IsSet)
        {
            Thread.SpinWait(100);
        }
    }

    private static void WaitInLibrary(ManualResetEventSlim done)
    {
        while (!done.IsSet)
        {
            _ = usleep(10_000);
        }
    }

    /// <summary>Nothing but libc is on its stack.</summary>
    private static nint NativeThread()
    {
        nint started;
        nint library = NativeLibrary.Load("libc.so.6");
        Assert.That(pthread_create(&started, 0, NativeLibrary.GetExport(library, "pause"), 0), Is.Zero);
        return started;
    }

    [LibraryImport("libc")]
    private static partial int gettid();

    [LibraryImport("libc")]
    private static partial int usleep(uint microseconds);

    [LibraryImport("libc")]
    private static partial int pthread_create(nint* thread, nint attributes, nint start, nint argument);

    [LibraryImport("libc")]
    private static partial int pthread_cancel(nint thread);

    [LibraryImport("libc")]
    private static partial int pthread_join(nint thread, nint result);
}
