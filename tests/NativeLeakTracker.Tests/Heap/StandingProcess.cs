using NativeLeaks.Capture;
using NativeLeaks.Heap;

namespace NativeLeaks.Tests.Heap;

/// <summary>A child process that stands still by itself.</summary>
internal sealed unsafe class StandingProcess(int processId) : FrozenMemory
{
    public override int ProcessId => processId;

    public override IReadOnlyList<MemoryMapping> Mappings { get; } = MemoryMap.Of(processId);

    public override IReadOnlyList<FrozenThread> Threads => [];

    public override int Read(ulong address, Span<byte> destination)
    {
        fixed (byte* to = destination)
        {
            return (int)Math.Max(0, ShimLibrary.ReadMemory(processId, address, to, (ulong)destination.Length));
        }
    }
}
