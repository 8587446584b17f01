using NativeLeaks.Heap;

namespace NativeLeaks.Tests.Heap;

/// <summary>
/// Memory in which bits are wrong here and there, in what is read in pieces of at least so many bytes; the same for the same seed.
/// </summary>
internal sealed class DamagedMemory(FrozenMemory memory, int seed, int leastBytes) : FrozenMemory
{
    private const int MaxBits = 20;

    private readonly Random _random = new(seed);

    public override int ProcessId => memory.ProcessId;

    public override IReadOnlyList<MemoryMapping> Mappings => memory.Mappings;

    public override IReadOnlyList<FrozenThread> Threads => memory.Threads;

    public override int Read(ulong address, Span<byte> destination)
    {
        int read = memory.Read(address, destination);
        for (int bits = read >= leastBytes && read > 0 ? _random.Next(MaxBits) : 0; bits > 0; bits--)
        {
            destination[_random.Next(read)] ^= (byte)(1 << _random.Next(8));
        }

        return read;
    }
}
