using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;

namespace NativeLeaks.Capture;

/// <summary>Which function must free a block: memory of one family is freed by that family only.</summary>
internal enum AllocationFamily
{
    /// <summary>Freed by NativeMemory.Free.</summary>
    NativeMemory,

    /// <summary>Freed by NativeMemory.AlignedFree.</summary>
    AlignedNativeMemory,

    /// <summary>Freed by Marshal.FreeHGlobal.</summary>
    HGlobal,

    /// <summary>Freed by Marshal.FreeCoTaskMem.</summary>
    CoTaskMem,

    /// <summary>Freed by Marshal.FreeBSTR.</summary>
    Bstr,
}

/// <summary>A live block that a Tracked wrapper handed out.</summary>
/// <param name="Address">The pointer that the caller got (for a BSTR this is inside the malloc block, past its
/// length).</param>
/// <param name="SizeBytes">How many bytes from <paramref name="Address"/> on are the caller's; null where the runtime
/// chose the size and does not tell.</param>
/// <param name="Api">The call that the wrapper stands in for, such as <c>Marshal.AllocHGlobal(Int32)</c>.</param>
/// <param name="Family">Who must free it.</param>
/// <param name="Stack">Managed frames, innermost first, beginning with the wrapper's caller; no file and line, which
/// would cost a PDB read an allocation.</param>
/// <param name="Sequence">Grows with every recorded allocation of this process; never reused.</param>
internal sealed record WrapperBlock(
    nint Address,
    long? SizeBytes,
    string Api,
    AllocationFamily Family,
    StackTrace Stack,
    long Sequence);

/// <summary>A block that a function of another family released.</summary>
/// <param name="Block">The block, with the stack of its allocation.</param>
/// <param name="Function">What released it.</param>
/// <param name="Stack">Managed frames, innermost first, beginning with the wrapper's caller.</param>
internal sealed record WrongRelease(WrapperBlock Block, ReleaseFunction Function, StackTrace Stack);

/// <summary>
/// The live blocks of the Tracked wrappers, where the native engine does not see them: on platforms without it.
/// </summary>
/// <remarks>
/// Every member may be called from any thread. With no scope open a wrapper costs one read of a field; with one open
/// an allocation costs a managed stack walk (microseconds), and memory stays proportional to the live blocks. The
/// order is that of the native engine: a release is noted before the real call and an allocation after it, because in
/// between the allocator may give the same address to another thread.
/// </remarks>
/// <param name="isNeeded">Asked at each allocation while a scope is open; false where something else records
/// it.</param>
internal sealed class WrapperLedger(Func<bool> isNeeded)
{
    private readonly Lock _gate = new();
    private int _scopes;

    // A new table for each period in which scopes are open, null between them: a thread that comes late with an entry
    // for an earlier period puts it into that period's table, where nobody looks any more, and no lock is needed
    // against Close.
    private volatile ConcurrentDictionary<nint, WrapperBlock>? _blocks;

    private long _sequence;
    private long _unknownFrees;
    private long _dropped;

    // Bounded: a program that is wrong in a loop is told once a stack, and the rest is counted.
    private const int MaxWrongReleases = 1000;
    private volatile ConcurrentQueue<WrongRelease> _wrong = new();
    private long _unlistedWrong;

    /// <summary>The ledger that the wrappers write.</summary>
    internal static WrapperLedger Shared { get; } = new(static () => !ShimEngine.IsRecording);

    /// <summary>Whether this ledger has to record allocations. Tests replace it.</summary>
    internal Func<bool> IsNeeded { get; set; } = isNeeded;

    /// <summary>Whether a scope is open.</summary>
    internal bool IsOpen => _blocks is not null;

    /// <summary>The number of the newest recorded block; what is allocated from here on has a greater one.</summary>
    internal long Sequence => Interlocked.Read(ref _sequence);

    /// <summary>
    /// Frees of addresses not in the table, since the process began: allocated before a scope was open, or by
    /// somebody else.
    /// </summary>
    internal long UnknownFrees => Interlocked.Read(ref _unknownFrees);

    /// <summary>Blocks that could not be recorded because the managed heap was full, since the process began.</summary>
    internal long Dropped => Interlocked.Read(ref _dropped);

    /// <summary>Begins a scope: recording is on until as many <see cref="Close"/> as Open calls were made.</summary>
    internal void Open()
    {
        lock (_gate)
        {
            if (_scopes++ == 0)
            {
                _blocks = new();
            }
        }
    }

    /// <summary>Ends a scope; the last one forgets every block.</summary>
    /// <exception cref="InvalidOperationException">No scope is open.</exception>
    internal void Close()
    {
        lock (_gate)
        {
            if (_scopes == 0)
            {
                throw new InvalidOperationException("WrapperLedger.Close without a matching Open.");
            }

            if (--_scopes == 0)
            {
                _blocks = null;
                _wrong = new();
            }
        }
    }

    /// <summary>
    /// The recorded blocks that are still live and newer than <paramref name="sinceSequence"/>, oldest first.
    /// </summary>
    internal IReadOnlyList<WrapperBlock> Outstanding(long sinceSequence) =>
        _blocks is not { } blocks ? [] :
        [
            .. blocks.Select(entry => entry.Value)
                .Where(block => block.Sequence > sinceSequence)
                .OrderBy(block => block.Sequence),
        ];

    /// <summary>Releases by a function of another family, of blocks newer than <paramref name="sinceSequence"/>.</summary>
    internal IReadOnlyList<WrongRelease> WrongReleases(long sinceSequence) =>
        [.. _wrong.Where(release => release.Block.Sequence > sinceSequence)];

    /// <summary>Wrong releases that found no room in the list, since the process began.</summary>
    internal long UnlistedWrongReleases => Interlocked.Read(ref _unlistedWrong);

    /// <summary>Notes what a real allocation returned; call it after the real call.</summary>
    /// <returns>
    /// <paramref name="address"/>, so that a wrapper is one expression. Zero is no block and is not recorded.
    /// </returns>
    internal nint Allocated(nint address, long? sizeBytes, string api, AllocationFamily family)
    {
        if (address != 0 && (_blocks is not null || PairingCheck.IsOn))
        {
            try
            {
                PairingCheck.Allocated(address, sizeBytes, family);
                if (_blocks is { } blocks && IsNeeded())
                {
                    // Where native code freed an older block its entry is still there; the allocator knows better.
                    StackTrace stack = CallerStack();
                    blocks[address] = new(address, sizeBytes, api, family, stack, Interlocked.Increment(ref _sequence));
                }
            }
            catch (OutOfMemoryException)
            {
                // The caller's block is his own and must reach him.
                Interlocked.Increment(ref _dropped);
            }
        }

        return address;
    }

    /// <summary>Notes that a block is about to be freed; call it before the real call.</summary>
    /// <remarks>
    /// Not asked whether it is needed: the block may have been recorded before the native engine began.
    /// </remarks>
    /// <returns>What <see cref="PutBack"/> takes when the real call then fails.</returns>
    internal ReleasedBlock Released(nint address)
    {
        if (address != 0 && _blocks is { } blocks)
        {
            if (blocks.TryRemove(address, out WrapperBlock? block))
            {
                return new(blocks, block);
            }

            if (IsNeeded())
            {
                Interlocked.Increment(ref _unknownFrees);
            }
        }

        return default;
    }

    /// <summary>
    /// Notes that a function is about to release a block. False: it is of another family; that was noted, and the block
    /// has been released by the function that belongs to it.
    /// </summary>
    internal bool MayRelease(nint address, ReleaseFunction function)
    {
        ReleasedBlock released = Released(address);
        if (WrongFamily(address, released, PairingCheck.Take(address), function) is not var (family, sizeBytes))
        {
            return true;
        }

        RightRelease.Free(address, family, sizeBytes, function.Clears());
        return false;
    }

    /// <summary>The block's own family and size, where the function is of another one, which is noted; else null.</summary>
    private (AllocationFamily Family, long? SizeBytes)? WrongFamily(
        nint address, ReleasedBlock released, PairingCheck.FamilyNote? note, ReleaseFunction function)
    {
        if (note is { } known && known.Family != function.Family())
        {
            PairingCheck.Note(address, known.Family, function);
            return (known.Family, known.SizeBytes);
        }

        if (note is null && released.Block is { } block && block.Family != function.Family() && PairingCheck.IsOn)
        {
            if (_wrong.Count < MaxWrongReleases)
            {
                _wrong.Enqueue(new WrongRelease(block, function, CallerStack()));
            }
            else
            {
                Interlocked.Increment(ref _unlistedWrong);
            }

            return (block.Family, block.SizeBytes);
        }

        return null;
    }

    /// <summary>Undoes <see cref="Released"/>: the block was not freed after all.</summary>
    internal static void PutBack(ReleasedBlock released) =>
        released.Blocks?.TryAdd(released.Block!.Address, released.Block);

    /// <summary>
    /// Runs a reallocation: the old block is out of the table during the call, the new one in it afterwards, or the
    /// old one again.
    /// </summary>
    /// <param name="address">The old block; zero when there is none.</param>
    /// <param name="sizeBytes">The new size.</param>
    /// <param name="alignment">Passed on to <paramref name="real"/>.</param>
    /// <param name="real">The real call: address, size in bytes and alignment to the new address. What it throws is
    /// thrown.</param>
    /// <param name="api">As in <see cref="WrapperBlock"/>.</param>
    /// <param name="function">The function that resizes.</param>
    internal nint Reallocated(
        nint address,
        nuint sizeBytes,
        nuint alignment,
        Func<nint, nuint, nuint, nint> real,
        string api,
        ReleaseFunction function)
    {
        ReleasedBlock old = Released(address);
        PairingCheck.FamilyNote? note = PairingCheck.Take(address);
        nint result;
        try
        {
            result = WrongFamily(address, old, note, function) is var (other, oldSizeBytes)
                && RightRelease.Move(address, other, oldSizeBytes, sizeBytes, alignment, real, function) is { } moved
                ? moved
                : real(address, sizeBytes, alignment);
        }
        catch
        {
            PutBack(old);
            if (note is { } held)
            {
                PairingCheck.PutBack(address, held);
            }

            throw;
        }

        return Allocated(result, (long)sizeBytes, api, function.Family());
    }

    // Our own frames are told by their module and not counted: the JIT turns a wrapper's last call into a jump when
    // it optimizes.
    [UnconditionalSuppressMessage("Trimming", "IL2026", Justification = "A frame whose method is not known stays.")]
    private static StackTrace CallerStack()
    {
        StackFrame[] frames = new StackTrace(fNeedFileInfo: false).GetFrames();
        return new(frames.SkipWhile(frame => frame.GetMethod()?.Module == typeof(WrapperLedger).Module));
    }

    /// <summary>A block taken out of the table, and the table that it was taken from.</summary>
    internal readonly record struct ReleasedBlock(
        ConcurrentDictionary<nint, WrapperBlock>? Blocks,
        WrapperBlock? Block);
}
