using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using NativeLeaks.Capture;
using NativeLeaks.Heap;

namespace NativeLeaks.Tests.Heap;

[TestFixture]
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed unsafe partial class FrozenCopyTests
{
    [Test]
    public void Memory_of_the_copy_is_that_of_the_moment()
    {
        ulong* word = (ulong*)NativeMemory.Alloc(sizeof(ulong));
        ulong[] managed = GC.AllocateUninitializedArray<ulong>(1000, pinned: true);
        *word = 1;
        Array.Fill(managed, 2UL);
        using (FrozenCopy copy = Make())
        {
            *word = 3;
            Array.Clear(managed);
            Assert.That(copy.TryReadWord((ulong)word, out ulong was), Is.True);
            Assert.That(was, Is.EqualTo(1));
            var bytes = new byte[managed.Length * sizeof(ulong)];
            Assert.That(copy.Read((ulong)Unsafe.AsPointer(ref managed[0]), bytes), Is.EqualTo(bytes.Length));
            Assert.That(MemoryMarshal.Cast<byte, ulong>(bytes).ToArray(), Is.All.EqualTo(2));
            Assert.That(*word, Is.EqualTo(3), "the program's own memory is its own");
        }

        NativeMemory.Free(word);
    }

    [Test]
    public void Reading_ends_where_nothing_is_mapped()
    {
        using FrozenCopy copy = Make();
        MemoryMapping beforeHole = Holes(copy.Mappings).First();
        var bytes = new byte[64];
        Assert.That(copy.Read(beforeHole.End - 24, bytes), Is.EqualTo(24));
        Assert.That(copy.Read(beforeHole.End, bytes), Is.Zero);
        Assert.That(copy.Read(0, bytes), Is.Zero);
        Assert.That(copy.Read(ulong.MaxValue - 7, bytes), Is.Zero);
        Assert.That(copy.Read(0xffff_8000_0000_0000, bytes), Is.Zero);
        Assert.That(copy.Read(beforeHole.Start, []), Is.Zero);
    }

    // Places where something readable ends and nothing follows.
    private static IEnumerable<MemoryMapping> Holes(IReadOnlyList<MemoryMapping> mappings) =>
        mappings.Zip(mappings.Skip(1))
            .Where(static pair => pair.First.End < pair.Second.Start && pair.First.Protection.HasFlag(MemoryProtection.Read))
            .Select(static pair => pair.First);

    /// <summary>As W^X does with types and code, which are opened up only when something is put there.</summary>
    [Test]
    public void Shared_memory_that_was_opened_up_later_is_read_from_the_process()
    {
        const int None = 0, ReadWrite = 3, Shared = 1, Anonymous = 0x20;
        byte* memory = (byte*)Map(0, 3 * 4096, None, Shared | Anonymous, -1, 0);
        Assert.That((nint)memory, Is.Not.EqualTo(-1));
        using (FrozenCopy copy = Make())
        {
            Assert.That(Protect((nint)memory + 4096, 4096, ReadWrite), Is.Zero);
            memory[4096] = 77;
            memory[8191] = 78;
            var bytes = new byte[8192];
            Assert.That(copy.Read((ulong)memory, bytes), Is.Zero, "nobody can read that");
            Assert.That(copy.Read((ulong)memory + 4096, bytes), Is.EqualTo(4096), "and then that again");
            Assert.That((bytes[0], bytes[4095]), Is.EqualTo((77, 78)));
        }

        Assert.That(Unmap((nint)memory, 3 * 4096), Is.Zero);
    }

    [LibraryImport("libc", EntryPoint = "mmap")]
    private static partial nint Map(nint address, nuint bytes, int protection, int flags, int file, long offset);

    [LibraryImport("libc", EntryPoint = "mprotect")]
    private static partial int Protect(nint address, nuint bytes, int protection);

    [LibraryImport("libc", EntryPoint = "munmap")]
    private static partial int Unmap(nint address, nuint bytes);

    [Test]
    public void All_threads_are_told_and_the_asking_one_stands_in_its_stack()
    {
        using var ready = new CountdownEvent(4);
        bool isDone = false;
        var threads = new Thread[4];
        for (int i = 0; i < threads.Length; i++)
        {
            bool spins = i % 2 == 0;
            threads[i] = new Thread(() =>
            {
                ready.Signal();
                while (!Volatile.Read(ref isDone))
                {
                    if (!spins)
                    {
                        Thread.Sleep(20);
                    }
                }
            });
            threads[i].Start();
        }

        ready.Wait();
        byte local = 0;
        using (FrozenCopy copy = Make())
        {
            int[] expected = [.. Directory.GetDirectories("/proc/self/task").Select(static path => int.Parse(Path.GetFileName(path), CultureInfo.InvariantCulture))];
            Assert.That(copy.Threads.Select(static thread => thread.Id), Is.Unique);
            // Threads of the runtime's pool come and go.
            Assert.That(copy.Threads.Count, Is.GreaterThanOrEqualTo(threads.Length + 1));
            Assert.That(expected.Count(id => copy.Threads.Any(thread => thread.Id == id)), Is.GreaterThanOrEqualTo(threads.Length + 1));
            FrozenThread caller = copy.Threads.Single(static thread => thread.IsCaller);
            Assert.That(caller.StackPointer, Is.LessThan((ulong)&local).And.GreaterThan((ulong)&local - 100_000));
            Assert.That(copy.TryReadWord(caller.ThreadPointer, out ulong self), Is.True);
            Assert.That(self, Is.EqualTo(caller.ThreadPointer));
            foreach (FrozenThread thread in copy.Threads.Where(static thread => thread.StackPointer != 0))
            {
                Assert.That(copy.TryReadWord(thread.StackPointer & ~7UL, out _), Is.True);

                // Also of those that never called a hook, such as the runtime's own that sleep.
                Assert.That(copy.TryReadWord(thread.ThreadPointer, out ulong own) ? own : 0, Is.EqualTo(thread.ThreadPointer).And.Not.Zero);
            }

            Assert.That(copy.CutCalls, Is.Zero);
            TestContext.Out.WriteLine($"stopped {copy.Stopped.TotalMilliseconds} ms, took {copy.Took.TotalMilliseconds} ms, " +
                $"{copy.Threads.Count} threads, {copy.UnknownThreads} unknown");
        }

        Volatile.Write(ref isDone, true);
        Array.ForEach(threads, static thread => thread.Join());
    }

    [Test]
    public void The_program_does_not_see_the_copy()
    {
        int signals = 0;
        using var first = new ManualResetEventSlim();
        using (PosixSignalRegistration.Create(PosixSignal.SIGCHLD, _ =>
        {
            Interlocked.Increment(ref signals);
            first.Set();
        }))
        {
            for (int i = 0; i < 20; i++)
            {
                Make().Dispose();
            }

            using (Make())
            {
                using Process child = Process.Start("/bin/true");
                child.WaitForExit();
                Assert.That(child.ExitCode, Is.Zero);
            }

            first.Wait();
        }

        Assert.That(signals, Is.EqualTo(1), "only the child that the program started");
    }

    [Test]
    public void Sixteen_threads_that_ask_at_once_each_get_a_copy()
    {
        var threads = new Thread[16];
        int right = 0;
        for (int i = 0; i < threads.Length; i++)
        {
            ulong own = (ulong)i;
            threads[i] = new Thread(() =>
            {
                ulong word = own;
                for (int round = 0; round < 5; round++)
                {
                    word = (own << 32) + (ulong)round;
                    using FrozenCopy copy = Make();
                    ulong expected = word;
                    Volatile.Write(ref word, ulong.MaxValue);
                    if (copy.TryReadWord((ulong)&word, out ulong was) && was == expected)
                    {
                        Interlocked.Increment(ref right);
                    }
                }
            });
        }

        Array.ForEach(threads, static thread => thread.Start());
        Array.ForEach(threads, static thread => thread.Join());
        Assert.That(right, Is.EqualTo(16 * 5));
    }

    [Test]
    public void A_hundred_copies_in_a_row_leave_nothing_behind()
    {
        Make().Dispose();
        int before = Directory.GetFiles("/proc/self/fd").Length + Directory.GetDirectories("/proc/self/task").Length + Children();
        for (int i = 0; i < 100; i++)
        {
            using FrozenCopy copy = Make();
            Assert.That(copy.Mappings, Is.Not.Empty);
            MemoryMapping heap = copy.Mappings.First(static mapping => mapping.Path == "[heap]");
            Assert.That(copy.PresentPages(heap.Start, heap.End), Has.Some.True);
        }

        // Others may open files and start threads meanwhile, but not hundreds.
        int after = Directory.GetFiles("/proc/self/fd").Length + Directory.GetDirectories("/proc/self/task").Length + Children();
        Assert.That(after, Is.LessThan(before + 100));
        Assert.That(Children(), Is.LessThan(100));
    }

    private static int Children() => Directory.GetDirectories("/proc/self/task")
        .Sum(static task => File.Exists(task + "/children") ? File.ReadAllText(task + "/children").Split(' ', StringSplitOptions.RemoveEmptyEntries).Length : 0);

    [Test]
    public void Pages_that_were_never_written_are_told_from_those_that_were()
    {
        const int Pages = 300;
        byte* memory = (byte*)NativeMemory.AlignedAlloc(Pages * 4096, 4096);
        for (int page = 0; page < Pages; page += 3)
        {
            memory[page * 4096] = 1;
        }

        using (FrozenCopy copy = Make())
        {
            bool[] present = copy.PresentPages((ulong)memory, (ulong)memory + (Pages * 4096));
            Assert.That(present, Has.Length.EqualTo(Pages));
            for (int page = 0; page < Pages; page += 3)
            {
                Assert.That(present[page], Is.True);
            }

            // Huge pages may have filled the gaps, so an absent page proves more than a present one.
            for (int page = 0; page < Pages; page++)
            {
                Assert.That(copy.TryReadWord((ulong)memory + ((ulong)page * 4096), out ulong word), Is.True);
                Assert.That(present[page] || word == 0, Is.True);
            }

            MemoryMapping file = copy.Mappings.First(static mapping => mapping.Path.EndsWith("libcoreclr.so", StringComparison.Ordinal));
            Assert.That(copy.PresentPages(file.Start, file.Start + 8192), Is.All.True, "a file's page is there without being in memory");
        }

        NativeMemory.AlignedFree(memory);
    }

    /// <summary>RLIMIT_NPROC does not hold for root, and a test must not exhaust anything.</summary>
    [TestCase(ShimLibrary.FreezeStatus.NoHeadroom, "the copy of the process would need up to 812 MB, and its memory limit leaves 300 MB")]
    [TestCase(ShimLibrary.FreezeStatus.TooMany, "the limit of processes is reached (ulimit -u, or the pids limit of the container)")]
    [TestCase(ShimLibrary.FreezeStatus.Forbidden, "this process may not make another one (errno 1; is a seccomp filter forbidding clone?)")]
    [TestCase(ShimLibrary.FreezeStatus.Failed, "the copy of the process could not be made (errno 1)")]
    public void The_reason_why_there_is_no_copy_is_told_in_words(object status, string reason) =>
        Assert.That(FrozenCopy.Describe((ShimLibrary.FreezeStatus)status, error: 1, neededBytes: 812 << 20, availableBytes: 300 << 20), Is.EqualTo(reason));

    private static FrozenCopy Make()
    {
        FrozenCopy? copy = FrozenCopy.TryMake(out string? reason);
        Assert.That(copy, Is.Not.Null, reason);
        return copy!;
    }
}
