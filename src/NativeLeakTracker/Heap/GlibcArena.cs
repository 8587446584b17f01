using System.Runtime.InteropServices;

namespace NativeLeaks.Heap;

/// <summary>
/// One arena of glibc's malloc: a <c>struct malloc_state</c>. The main one is a variable of libc without a symbol, the others stand at
/// the beginning of a heap; all are chained.
/// </summary>
/// <remarks>
/// <code>
///    0  mutex, flags, have_fastchunks           112  127 bins: first and last chunk of each; an empty one points to the word 16 bytes before it
///   16  10 fastbins                            2144  binmap
///   96  top                                    2160  next, next_free, attached_threads
///  104  last_remainder                         2184  system_mem, max_system_mem                          2200
/// </code>
/// </remarks>
internal sealed class GlibcArena
{
    public const int StateBytes = 2200;
    public const int FastbinCount = 10;
    private const int FastbinsAt = 16, TopAt = 96, BinsAt = 112, NextAt = 2160, SystemBytesAt = 2184, MaxSystemBytesAt = 2192;
    private const int BinCount = 127;
    private const int MaxArenas = 1 << 14;
    private const ulong UserSpaceEnd = 1UL << 47;
    private const ulong PageBytes = 4096;

    private readonly RawWord[] _state;

    private GlibcArena(ulong address, RawWord[] state, bool isMain)
    {
        Address = address;
        _state = state;
        IsMain = isMain;
    }

    public ulong Address { get; }

    public bool IsMain { get; }

    /// <summary>A thread stood inside it.</summary>
    public bool IsLocked => (uint)_state[0] != 0;

    /// <summary>The chunk that new memory is cut from; 0: nothing was ever allocated here.</summary>
    public ulong Top => this[TopAt] == Address + TopAt ? 0 : this[TopAt];

    /// <summary>What it got from the system and has not given back.</summary>
    public ulong SystemBytes => this[SystemBytesAt];

    private ulong Next => this[NextAt];

    private ulong this[int offset] => _state[offset / sizeof(ulong)];

    /// <summary>The first chunk of a list of small free ones; 0: there is none.</summary>
    public ulong Fastbin(int index) => this[FastbinsAt + (index * sizeof(ulong))];

    /// <summary>The main arena first. Null: none was found that can be believed.</summary>
    public static IReadOnlyList<GlibcArena>? FindAll(FrozenMemory memory, out string? reason)
    {
        reason = null;
        if (FindMain(memory) is not { } main)
        {
            reason = "no main arena of glibc's malloc was found in libc's data";
            return null;
        }

        List<GlibcArena> arenas = [main];
        for (ulong next = main.Next; next != main.Address; next = arenas[^1].Next)
        {
            if (arenas.Count == MaxArenas || TryRead(memory, next, isMain: false) is not { } arena)
            {
                reason = $"the chain of malloc's arenas breaks at 0x{next:x}";
                return null;
            }

            arenas.Add(arena);
        }

        return arenas;
    }

    /// <summary>Most of its bins are empty, and so point to themselves: nothing else in libc's data does.</summary>
    private static GlibcArena? FindMain(FrozenMemory memory)
    {
        foreach (MemoryMapping mapping in LibcData(memory))
        {
            var words = new RawWord[(mapping.End - mapping.Start) / sizeof(ulong)];
            int count = memory.Read(mapping.Start, MemoryMarshal.AsBytes(words.AsSpan())) / sizeof(ulong);
            for (int i = 0; i + 1 < count; i++)
            {
                ulong at = mapping.Start + ((ulong)i * sizeof(ulong));
                for (int bin = 0; words[i] == at - 16 && words[i + 1] == at - 16 && bin < BinCount; bin++)
                {
                    if (TryRead(memory, at - (ulong)(BinsAt + (bin * 16)), isMain: true) is { } arena)
                    {
                        return arena;
                    }
                }
            }
        }

        return null;
    }

    /// <summary>The writable parts of the C library's file, of a bounded size.</summary>
    public static IEnumerable<MemoryMapping> LibcData(FrozenMemory memory) => memory.Mappings.Where(static mapping =>
        !mapping.IsShared && mapping.Protection.HasFlag(MemoryProtection.Read | MemoryProtection.Write) &&
        mapping.End - mapping.Start < 1 << 24 &&
        Path.GetFileName(mapping.Path.AsSpan()) is var name && (name.StartsWith("libc.so") || name.StartsWith("libc-2.")));

    private static GlibcArena? TryRead(FrozenMemory memory, ulong address, bool isMain)
    {
        var state = new RawWord[StateBytes / sizeof(ulong)];
        if (address % sizeof(ulong) != 0 || memory.Read(address, MemoryMarshal.AsBytes(state.AsSpan())) != StateBytes)
        {
            return null;
        }

        var arena = new GlibcArena(address, state, isMain);
        return arena.IsPlausible ? arena : null;
    }

    private bool IsPlausible
    {
        get
        {
            for (int bin = 0; bin < BinCount; bin++)
            {
                int at = BinsAt + (bin * 16);
                ulong self = Address + (ulong)at - 16;
                bool isEmpty = this[at] == self;
                if (isEmpty != (this[at + 8] == self) || (!isEmpty && !(IsPointer(this[at]) && IsPointer(this[at + 8]))))
                {
                    // The order of the two writes when a thread stood between them.
                    if (!IsLocked || !IsPointer(this[at]) || !IsPointer(this[at + 8]))
                    {
                        return false;
                    }
                }
            }

            return (uint)_state[0] <= 2 && (Top == 0 || IsPointer(Top)) && Next is > 0 and < UserSpaceEnd && Next % 8 == 0 &&
                SystemBytes % PageBytes == 0 && SystemBytes < UserSpaceEnd && this[MaxSystemBytesAt] >= SystemBytes;
        }
    }

    // Of a chunk, which is aligned; a bin's own words are only aligned to their size.
    private static bool IsPointer(ulong word) => word is >= PageBytes and < UserSpaceEnd && word % 8 == 0;
}
