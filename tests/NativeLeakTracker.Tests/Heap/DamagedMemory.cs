using NativeLeaks.Heap;

namespace NativeLeaks.Tests.Heap;

/// <summary>Memory in which bits are wrong here and there, from a moment on; the same for the same seed.</summary>
internal sealed class DamagedMemory(FrozenMemory memory, int seed) : FrozenMemory
{
    private readonly Random _random = new(seed);
    private bool _isDamaged;

    public override int ProcessId => memory.ProcessId;

    public override IReadOnlyList<MemoryMapping> Mappings => memory.Mappings;

    public override IReadOnlyList<FrozenThread> Threads => memory.Threads;

    public void Begin() => _isDamaged = true;

    public override int Read(ulong address, Span<byte> destination)
    {
        int read = memory.Read(address, destination);
        if (_isDamaged && read > 0 && _random.Next(20) == 0)
        {
            destination[_random.Next(read)] ^= (byte)(1 << _random.Next(8));
        }

        return read;
    }
}
