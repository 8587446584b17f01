using System.Runtime.CompilerServices;
using NativeLeaks.Capture;
using NativeLeaks.Ledger;

namespace NativeLeaks.Heap;

/// <summary>
/// This process as it was at one moment: a clone that runs nothing and that the program does not see (src/NativeShim/freeze.c).
/// Threads may read it together. One at a time is made: <see cref="TryMake"/> waits until the one before was disposed. It dies with the
/// thread that made it.
/// </summary>
internal sealed class FrozenCopy : FrozenMemory, IDisposable
{
    private const int PageBytes = 4096;
    private const int InvalidAddress = -14; // EFAULT

    // A semaphore: whoever disposes the copy need not be the thread that made it.
    private static readonly SemaphoreSlim s_one = new(1, 1);

    private readonly ShimLibrary.Frozen _frozen;
    private readonly Lazy<IReadOnlyList<MemoryMapping>> _mappings;
    private readonly Lazy<PageMap> _pages;
    private readonly List<AddressRange> _soonWritten = [];
    private int _isDisposed;

    private FrozenCopy(in ShimLibrary.Frozen frozen, IReadOnlyList<FrozenThread> threads)
    {
        _frozen = frozen;
        _mappings = new(() => MemoryMap.Of(ProcessId));
        _pages = new(() => PageMap.Open(ProcessId));
        Threads = ThreadPointers.Complete(this, threads);
    }

    /// <inheritdoc/>
    public override int ProcessId => _frozen.ProcessId;

    /// <inheritdoc/>
    public override IReadOnlyList<MemoryMapping> Mappings => _mappings.Value;

    /// <inheritdoc/>
    public override IReadOnlyList<FrozenThread> Threads { get; }

    /// <summary>For how long running threads stood still, at most.</summary>
    public TimeSpan Stopped => TimeSpan.FromMicroseconds(_frozen.StoppedNs / 1000.0);

    /// <summary>For how long whoever asked for the copy waited for it.</summary>
    public TimeSpan Took => TimeSpan.FromMicroseconds(_frozen.TookNs / 1000.0);

    /// <summary>Threads of which neither registers nor stack pointer are known: they ran, and did not stop in time.</summary>
    public int UnknownThreads => (int)_frozen.UnknownThreads;

    /// <summary>System calls of the program that failed with EINTR because a thread was stopped in them. Normally none.</summary>
    public int CutCalls => (int)_frozen.CutCalls;

    /// <summary>
    /// Makes the copy, which costs milliseconds, some ten more for each 500 MB in use. Null: it cannot be had, and
    /// <paramref name="reason"/> says why, as the second half of a sentence.
    /// </summary>
    public static FrozenCopy? TryMake(out string? reason)
    {
        s_one.Wait();
        FrozenCopy? copy = null;
        try
        {
            copy = Make(out reason);
            return copy;
        }
        finally
        {
            if (copy is null)
            {
                s_one.Release();
            }
        }
    }

    /// <inheritdoc/>
    public override unsafe int Read(ulong address, Span<byte> destination)
    {
        fixed (byte* start = destination)
        {
            int read = 0;
            while (read < destination.Length)
            {
                ulong from = address + (ulong)read;
                if (from < address)
                {
                    break;
                }

                // Shared memory is the same in the program, where its pages are present already.
                MemoryMapping mapping = MemoryMap.At(Mappings, from);
                long result = mapping.IsShared && mapping.Protection.HasFlag(MemoryProtection.Read)
                    ? ShimLibrary.ReadMemory(Environment.ProcessId, from, start + read, Math.Min((ulong)(destination.Length - read), mapping.End - from))
                    : 0;
                if (result <= 0)
                {
                    result = ShimLibrary.ReadMemory(ProcessId, from, start + read, (ulong)(destination.Length - read));
                }

                if (result <= 0)
                {
                    // Not a byte of this page: the program itself may have it.
                    int rest = Math.Min(destination.Length - read, PageBytes - (int)(from & (PageBytes - 1)));
                    result = result is 0 or InvalidAddress && IsShared(from) ? ShimLibrary.ReadMemory(Environment.ProcessId, from, start + read, (ulong)rest) : 0;
                }

                if (result <= 0)
                {
                    break;
                }

                read += (int)result;
            }

            return read;
        }
    }

    /// <summary>
    /// Which pages of a range can hold something else than zeros. Of private memory without a file, those that were ever written;
    /// of any other all, because the copy has such a page only once it was read there. Costs about a nanosecond a page.
    /// </summary>
    public override bool[] PresentPages(ulong start, ulong end)
    {
        start &= ~(ulong)(PageBytes - 1);
        int count = checked((int)((end - start + PageBytes - 1) / PageBytes));
        MemoryMapping mapping = MemoryMap.At(Mappings, start);
        if (!mapping.IsShared && !mapping.Path.StartsWith('/') && end <= mapping.End)
        {
            return _pages.Value.Present(start, count);
        }

        var all = new bool[count];
        Array.Fill(all, true);
        return all;
    }

    /// <summary>
    /// Memory that this process writes to all over, and soon: what of it is in use becomes its own again when the copy ends. Otherwise the first write to
    /// each page would be a page fault.
    /// </summary>
    public void WillBeWritten(IEnumerable<AddressRange> ranges) => _soonWritten.AddRange(ranges);

    /// <summary>Ends the copy. Never throws; costs milliseconds.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _isDisposed, 1) != 0)
        {
            return;
        }

        AddressRange[] present = [.. _soonWritten.SelectMany(range => _pages.Value.InUse(range.Start, range.End))];
        ShimLibrary.Thaw(ProcessId);
        foreach (AddressRange range in present)
        {
            Populate.ForWriting(range.Start, range.End - range.Start);
        }

        if (_pages.IsValueCreated)
        {
            _pages.Value.Dispose();
        }

        s_one.Release();
    }

    private static FrozenCopy? Make(out string? reason)
    {
        reason = null;
        for (int room = 256; ; room *= 4)
        {
            var threads = new ShimLibrary.ThreadState[room];
            ShimLibrary.FreezeStatus status = ShimLibrary.Freeze(out ShimLibrary.Frozen frozen, threads, (uint)room);
            if (status != ShimLibrary.FreezeStatus.Frozen)
            {
                reason = Describe(status, frozen.Error, frozen.NeededBytes, frozen.AvailableBytes);
                return null;
            }

            if (frozen.Threads <= room)
            {
                return new FrozenCopy(in frozen, [.. threads.Take((int)frozen.Threads).Select(ToThread)]);
            }

            ShimLibrary.Thaw(frozen.ProcessId);
        }
    }

    private static FrozenThread ToThread(ShimLibrary.ThreadState thread)
    {
        ReadOnlySpan<ulong> registers = thread.Registers;
        bool isComplete = thread.Kind is ShimLibrary.ThreadKind.Stopped or ShimLibrary.ThreadKind.Caller;
        return new FrozenThread((int)thread.Id, registers[ShimLibrary.StackPointerRegister], thread.ThreadPointer,
            isComplete ? registers.ToArray() : [], thread.Kind == ShimLibrary.ThreadKind.Caller);
    }

    /// <summary>Why there is no copy.</summary>
    internal static string Describe(ShimLibrary.FreezeStatus status, int error, ulong neededBytes, ulong availableBytes) => status switch
    {
        ShimLibrary.FreezeStatus.NoHeadroom =>
            $"the copy of the process would need up to {Megabytes(neededBytes)}, and its memory limit leaves {Megabytes(availableBytes)}",
        ShimLibrary.FreezeStatus.Forbidden => error == 0
            ? "the next child of this process would be the first of a new pid namespace"
            : $"this process may not make another one (errno {error}; is a seccomp filter forbidding clone?)",
        ShimLibrary.FreezeStatus.TooMany => "the limit of processes is reached (ulimit -u, or the pids limit of the container)",
        ShimLibrary.FreezeStatus.NoMemory => "the kernel has no memory for a copy of the process",
        ShimLibrary.FreezeStatus.Unreadable =>
            $"the copy of the process may not be read (errno {error}; is the process not dumpable, or a seccomp filter forbidding process_vm_readv?)",
        _ => $"the copy of the process could not be made (errno {error})",
    };

    private static string Megabytes(ulong bytes) => string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{bytes >> 20:N0} MB");

    // Loader heaps and code: W^X maps them from a file in memory, at places that are opened up only when something is put there. What is
    // shared may already refer to a place that the copy only has reserved, or not at all.
    private bool IsShared(ulong address) => MemoryMap.At(Mappings, address) is { IsShared: true } or { Protection: MemoryProtection.None };
}
