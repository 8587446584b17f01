using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace NativeLeaks.Capture;

// What nlt_freeze() fills in: src/NativeShim/include/nlt_control.h.
internal static partial class ShimLibrary
{
    /// <summary>REG_RSP, among the registers of a thread.</summary>
    public const int StackPointerRegister = 15;

    public enum FreezeStatus
    {
        Frozen = 0,
        NoHeadroom = 1,
        Forbidden = 2,
        TooMany = 3,
        NoMemory = 4,
        Unreadable = 5,
        Failed = 6,
    }

    public enum ThreadKind : uint
    {
        Unknown = 0,
        Asleep = 1,
        Stopped = 2,
        Caller = 3,
    }

    [StructLayout(LayoutKind.Sequential)]
    public readonly struct Frozen
    {
        public readonly int ProcessId;
        public readonly int Error;
        public readonly ulong NeededBytes;
        public readonly ulong AvailableBytes;
        public readonly ulong StoppedNs;
        public readonly ulong TookNs;
        public readonly uint Threads;
        public readonly uint UnknownThreads;
        public readonly uint CutCalls;
        private readonly uint _reserved;
    }

    [StructLayout(LayoutKind.Sequential)]
    public readonly struct ThreadState
    {
        public readonly uint Id;
        public readonly ThreadKind Kind;
        public readonly ulong ThreadPointer;
        public readonly Registers17 Registers;
    }

    [StructLayout(LayoutKind.Sequential)]
    public readonly struct ThreadStorage
    {
        public readonly ulong Module;
        public readonly ulong Headers;
        public readonly ulong Address;
        public readonly ulong SizeBytes;
    }

    [InlineArray(17)]
    public struct Registers17
    {
        private ulong _first;
    }
}
