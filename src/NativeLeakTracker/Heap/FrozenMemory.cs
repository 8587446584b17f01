namespace NativeLeaks.Heap;

/// <summary>The memory of a process as it was at one moment, and where its threads stood. Reading needs no lock.</summary>
internal abstract class FrozenMemory
{
    /// <summary>The process that is read: a copy of the one that is judged, or one that stands still.</summary>
    public abstract int ProcessId { get; }

    /// <summary>What is mapped, by address.</summary>
    public abstract IReadOnlyList<MemoryMapping> Mappings { get; }

    /// <summary>All threads of the process that is judged, whether or not much is known of them.</summary>
    public abstract IReadOnlyList<FrozenThread> Threads { get; }

    /// <summary>Reads as much as is mapped from the address on, and says how many bytes that were; 0 when none.</summary>
    public abstract int Read(ulong address, Span<byte> destination);

    /// <summary>
    /// Which of the pages of a range may hold something else than zeros: reading one that was never touched would make it present in the
    /// copy.
    /// </summary>
    public virtual bool[] PresentPages(ulong start, ulong end)
    {
        const ulong PageBytes = 4096;
        var present = new bool[(end - (start & ~(PageBytes - 1)) + PageBytes - 1) / PageBytes];
        Array.Fill(present, true);
        return present;
    }

    /// <summary>One word; false when it is not mapped.</summary>
    public bool TryReadWord(ulong address, out ulong word)
    {
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        bool isRead = Read(address, bytes) == sizeof(ulong);
        word = isRead ? BitConverter.ToUInt64(bytes) : 0;
        return isRead;
    }
}

/// <summary>Where a thread stood.</summary>
/// <param name="Id">As the kernel numbers threads (gettid).</param>
/// <param name="StackPointer">0 when it could not be told.</param>
/// <param name="ThreadPointer">The base of its thread storage (fs); 0 when it could not be told.</param>
/// <param name="Registers">The general registers in the order of <c>REG_R8</c> to <c>REG_RIP</c> of ucontext(3), as many as are
/// known; empty of a thread that slept in the kernel.</param>
/// <param name="IsCaller">The thread that asked for the copy.</param>
internal sealed record FrozenThread(
    int Id, ulong StackPointer, ulong ThreadPointer, IReadOnlyList<ulong> Registers, bool IsCaller);

/// <summary>A line of /proc/PID/maps (proc(5)).</summary>
/// <param name="Start">First byte.</param>
/// <param name="End">One past the last.</param>
/// <param name="Protection">What may be done there.</param>
/// <param name="IsShared">Writes go to the file, and so to every process that maps it.</param>
/// <param name="Offset">Of the first byte, in the file.</param>
/// <param name="Path">Of the file, or a name in brackets; empty for anonymous memory.</param>
internal readonly record struct MemoryMapping(
    ulong Start, ulong End, MemoryProtection Protection, bool IsShared, ulong Offset, string Path);

[Flags]
internal enum MemoryProtection
{
    None = 0,
    Read = 1,
    Write = 2,
    Execute = 4,
}
