using System.Runtime.InteropServices;

namespace NativeLeaks.Ledger;

// The structures of src/NativeShim/include/nlt_ledger.h, field by field; a test compares sizes and offsets.

internal enum TableId
{
    Threads,
    Modules,
    Codes,
    Contexts,
    Epochs,
    Scopes,
    Finalized,
    Strings,
    Chunks,
    Totals,
    Pending,
    Directory,
    FineDirectory,
    Images,
    Blobs,
    Pairings,
}

[StructLayout(LayoutKind.Sequential)]
internal readonly struct TableEntry
{
    public readonly ulong OffsetBytes;
    public readonly uint EntryBytes;
    public readonly uint Capacity;
    public readonly uint Count;
    public readonly uint Reserved;
}

[StructLayout(LayoutKind.Sequential)]
internal readonly struct LossCounters
{
    public readonly ulong DroppedBlocks;
    public readonly ulong TruncatedStacks;
    public readonly ulong ContextsFull;
    public readonly ulong UnseenImports;
    public readonly ulong MissedFrees;
    public readonly ulong LostThreads;
    public readonly ulong UnknownModules;
    public readonly ulong FoldedStacks;
    public readonly ulong WalkDifferences;
    public readonly ulong UntotalledBlocks;
    public readonly ulong UnlistedFinalized;
    public readonly ulong UncopiedCodeInfo;
    public readonly ulong UnlistedPairings;
    public readonly ulong UncertainReleases;
    public readonly Reserved2 Reserved;

    [System.Runtime.CompilerServices.InlineArray(2)]
    internal struct Reserved2
    {
        private ulong _element;
    }
}

internal enum CaptureMode : uint
{
    None = 0,
    Preload = 1,
    Late = 2,
}

[StructLayout(LayoutKind.Sequential, Size = 680)]
internal readonly struct LedgerHeader
{
    public const ulong ExpectedMagic = 0x31475244454c544e;
    public const uint ExpectedVersion = 3;

    public readonly ulong Magic;
    public readonly uint Version;
    public readonly uint HeaderBytes;
    public readonly ulong SizeBytes;
    public readonly ulong BaseAddress;
    public readonly uint Pid;
    public readonly CaptureMode Mode;
    public readonly ulong StartedUnixNs;
    public readonly ulong ShimBase;
    public readonly uint Recording;
    public readonly uint Session;
    public readonly uint UnwindClr;
    public readonly uint Allocator;
    public readonly LossCounters Losses;
    public readonly Tables16 Tables;
    public readonly ulong EpochsBegun;
    public readonly ulong SharedBytes;

    [System.Runtime.CompilerServices.InlineArray(16)]
    internal struct Tables16
    {
        private TableEntry _element;
    }
}

[StructLayout(LayoutKind.Sequential, Size = 128)]
internal readonly struct ThreadEntry
{
    public readonly uint Tid;
    public readonly uint Scope;
    public readonly ulong AllocatedBlocks;
    public readonly ulong AllocatedBytes;
    public readonly ulong FreedBlocks;
    public readonly ulong FreedBytes;
    public readonly ulong UntrackedFrees;
    public readonly ulong ApproximateStacks;
    public readonly ulong BrokenStacks;
    public readonly ulong ThreadPointer;
}

[StructLayout(LayoutKind.Sequential, Size = 48)]
internal readonly struct ModuleEntry
{
    public readonly ulong Start;
    public readonly ulong End;
    public readonly ulong LoadBias;
    public readonly uint Path;
    public readonly uint Flags;
    public readonly uint Generation;
}

internal enum CodeKind : ushort
{
    Unknown = 0,
    Jit = 1,
    ReadyToRun = 2,
    Stub = 3,
}

[Flags]
internal enum CodeFlags : ushort
{
    None = 0,
    Collectible = 1,
    Dynamic = 2,
}

[StructLayout(LayoutKind.Sequential, Size = 56)]
internal readonly struct ImageEntry
{
    public readonly ulong Module;
    public readonly ulong Base;
    public readonly ulong MvidAt;
    public readonly Guid Mvid;
    public readonly uint Path;
    public readonly uint Metadata;
    public readonly uint MetadataBytes;
    public readonly uint MethodRows;
}

[StructLayout(LayoutKind.Sequential, Size = 56)]
internal readonly struct CodeEntry
{
    public readonly ulong Start;
    public readonly ulong Method;
    public readonly ulong Type;
    public readonly uint Name;
    public readonly CodeKind Kind;
    public readonly CodeFlags Flags;
    public readonly uint Next;
    public readonly uint Token;
    public readonly uint Image;
    public readonly uint Rva;
    public readonly uint Bounds;
    public readonly uint BoundsBytes;
}

internal enum NodeKind : byte
{
    Unknown = 0,
    Native = 1,
    Managed = 2,
}

[Flags]
internal enum NodeFlags : byte
{
    None = 0,
    Approximate = 1,
    ExactPc = 2,
    Truncated = 4,
    Broken = 8,
    Folded = 16,
}

[StructLayout(LayoutKind.Sequential, Size = 32)]
internal readonly struct ContextEntry
{
    public readonly ulong Pc;
    public readonly uint Parent;
    public readonly uint Next;
    public readonly uint Object;
    public readonly NodeKind Kind;
    public readonly NodeFlags Flags;
    public readonly ushort Depth;
    public readonly uint Totals;
}

[StructLayout(LayoutKind.Sequential, Size = 64)]
internal readonly struct TotalsEntry
{
    public readonly uint Context;
    public readonly uint Reserved;
    public readonly ulong AllocatedBlocks;
    public readonly ulong AllocatedBytes;
    public readonly ulong FreedBlocks;
    public readonly ulong FreedBytes;
    public readonly ulong PeakBytes;
}

[StructLayout(LayoutKind.Sequential)]
internal readonly struct PendingSlot
{
    private const int AmountByteBits = 44;

    public readonly uint Context;
    public readonly uint Reserved;
    public readonly ulong Allocated;
    public readonly ulong Freed;
    public readonly long PeakNetBytes;

    public static long Blocks(ulong amount) => (long)(amount >> AmountByteBits);

    public static long Bytes(ulong amount) => (long)(amount & ((1UL << AmountByteBits) - 1));
}

[StructLayout(LayoutKind.Sequential, Size = 4160)]
internal readonly struct PendingEntry
{
    public const int SlotCount = 128;

    public readonly uint Version;
    public readonly uint Thread;
    public readonly Reserved14 Reserved;
    public readonly Slots128 Slots;

    [System.Runtime.CompilerServices.InlineArray(14)]
    internal struct Reserved14
    {
        private uint _element;
    }

    [System.Runtime.CompilerServices.InlineArray(SlotCount)]
    internal struct Slots128
    {
        private PendingSlot _element;
    }
}

/// <summary>Those of a scope, and of its epochs.</summary>
[Flags]
internal enum ScopeFlags : uint
{
    None = 0,

    /// <summary>Nobody is to be blamed for its blocks.</summary>
    Ignored = 1,

    /// <summary>It asks for everybody's blocks; no thread runs in it.</summary>
    WholeProcess = 2,
}

[StructLayout(LayoutKind.Sequential)]
internal readonly struct ScopeEntry
{
    /// <summary>Of flows whose scope was closed.</summary>
    public const uint Nobodys = 1;

    public readonly uint Epoch;
    public readonly uint Tag;
    public readonly uint IsOpen;
    public readonly ScopeFlags Flags;
}

[StructLayout(LayoutKind.Sequential, Size = 32)]
internal readonly struct EpochEntry
{
    public const uint TagOutside = 0;

    public readonly ulong Sequence;
    public readonly uint Session;
    public readonly uint ScopeTag;
    public readonly uint GcCount;
    public readonly uint TimeMs;
    public readonly ScopeFlags Flags;
    public readonly uint NextFree;
}

[StructLayout(LayoutKind.Sequential)]
internal readonly struct FinalizedEntry
{
    public readonly ulong Address;
    public readonly ulong SizeBytes;
    public readonly uint AllocatedContext;
    public readonly uint FreedContext;
    public readonly uint Epoch;
    public readonly uint IsComplete;
}

internal enum PairingKind : uint
{
    None = 0,
    ReleasedBefore = 1,
    InsideBlock = 2,
    Misaligned = 3,
    OnStack = 4,
    InImage = 5,
    WrongFunction = 6,
}

[Flags]
internal enum PairingFlags : uint
{
    None = 0,
    Resize = 1,
}

[StructLayout(LayoutKind.Sequential)]
internal readonly struct PairingEntry
{
    public readonly ulong Address;
    public readonly ulong SizeBytes;
    public readonly ulong Detail;
    public readonly PairingKind Kind;
    public readonly PairingFlags Flags;
    public readonly uint AllocatedContext;
    public readonly uint FirstReleaseContext;
    public readonly uint ReleaseContext;
    public readonly uint Epoch;
    public readonly uint BlockEpoch;
    public readonly uint IsComplete;
}

[StructLayout(LayoutKind.Sequential)]
internal readonly struct ChunkEntry
{
    private const int RegionShift = 26;

    public readonly ulong HeapStart;
    public readonly ulong Words;
    public readonly uint HeapShift;
    public readonly uint Reserved;
    public readonly ulong FileOffset;

    public ulong HeapEnd => HeapStart + (1UL << RegionShift);

    public int WordCount => 1 << (RegionShift - (int)HeapShift);
}

/// <summary>One live word, taken apart.</summary>
internal readonly struct LiveWord(ulong bits)
{
    public const uint SizeEscape = (1u << 14) - 1;
    public const uint EpochOlder = 1;
    public const uint RootContext = 1;

    public uint Context => (uint)(bits >> 36);

    public uint Size => (uint)(bits >> 22) & SizeEscape;

    /// <summary>Bits 4 and 3 of the block's address.</summary>
    public uint Quarter => (uint)(bits >> 20) & 3;

    public uint Epoch => (uint)bits & ((1u << 20) - 1);
}
