using System.Collections.Concurrent;

namespace NativeLeaks.Capture;

/// <summary>
/// On while a tracker asks for wrong releases. The engine then checks all of them; this class adds what only the Tracked wrappers
/// know: the family of each block that they hand out.
/// </summary>
/// <remarks>
/// Thread-safe. A note costs an entry in a table and no walk. The engine's own word of the block stands in it: should the block have
/// been released behind the wrappers' backs and its address be another's by now, the words differ, and nobody is accused.
/// </remarks>
internal static class PairingCheck
{
    // Blocks that native code frees leave their notes behind; beyond this number no more are made.
    private const int MaxNotes = 1 << 20;

    private static readonly Lock s_gate = new();
    private static ConcurrentDictionary<nint, FamilyNote>? s_notes;
    private static int s_askers;
    private static int s_count;

    /// <summary>Whether somebody asks.</summary>
    public static bool IsOn => Volatile.Read(ref s_notes) is not null;

    /// <summary>
    /// Asks. With the engine, wrong releases are listed from now on, and not passed on. False: there is no memory for it.
    /// </summary>
    public static bool TryBegin()
    {
        lock (s_gate)
        {
            if (ShimEngine.Ledger is not null && !ShimLibrary.BeginPairing())
            {
                return false;
            }

            if (s_askers++ == 0)
            {
                s_count = 0;
                Volatile.Write(ref s_notes, new());
            }

            return true;
        }
    }

    /// <summary>Ends the asking; the last one forgets all notes.</summary>
    public static void End()
    {
        lock (s_gate)
        {
            if (ShimEngine.Ledger is not null)
            {
                ShimLibrary.EndPairing();
            }

            if (--s_askers == 0)
            {
                Volatile.Write(ref s_notes, null);
            }
        }
    }

    /// <summary>A wrapper was given a block that the engine may have recorded.</summary>
    public static void Allocated(nint address, long? sizeBytes, AllocationFamily family)
    {
        if (Volatile.Read(ref s_notes) is not { } notes || ShimEngine.Ledger is null)
        {
            return;
        }

        ulong word = ShimLibrary.LiveWordAt(StartOf(address, family));
        if (word != 0 && s_count < MaxNotes)
        {
            notes[address] = new FamilyNote(family, sizeBytes, word);
            Interlocked.Increment(ref s_count);
        }
    }

    /// <summary>Takes the note of a block that a wrapper is about to release; null where there is none that still holds.</summary>
    public static FamilyNote? Take(nint address)
    {
        if (address == 0 || Volatile.Read(ref s_notes) is not { } notes || !notes.TryRemove(address, out FamilyNote note))
        {
            return null;
        }

        Interlocked.Decrement(ref s_count);
        return ShimLibrary.LiveWordAt(StartOf(address, note.Family)) == note.Word ? note : null;
    }

    /// <summary>The release did not happen after all.</summary>
    public static void PutBack(nint address, FamilyNote note)
    {
        if (Volatile.Read(ref s_notes) is { } notes && notes.TryAdd(address, note))
        {
            Interlocked.Increment(ref s_count);
        }
    }

    /// <summary>Has the engine list a release by a function of another family; to be called before it.</summary>
    public static void Note(nint address, AllocationFamily family, ReleaseFunction function) =>
        ShimLibrary.NoteWrongFunction(StartOf(address, family), (ulong)family | ((ulong)function << 8));

    // A BSTR's length stands before its text, in a word of its own.
    private static unsafe nint StartOf(nint address, AllocationFamily family) =>
        family == AllocationFamily.Bstr ? address - sizeof(nint) : address;

    /// <summary>What a wrapper knows of a block.</summary>
    /// <param name="Family">Who must free it.</param>
    /// <param name="SizeBytes">Bytes from the address on that are the caller's; null where they are not known.</param>
    /// <param name="Word">The engine's word of the block when it was handed out.</param>
    internal readonly record struct FamilyNote(AllocationFamily Family, long? SizeBytes, ulong Word);
}
