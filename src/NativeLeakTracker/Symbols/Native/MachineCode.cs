namespace NativeLeaks.Symbols.Native;

/// <summary>The machine code of a library's own file, read in blocks when it is asked for.</summary>
internal sealed class MachineCode(ElfFile file, MemoryAllowance memory)
{
    private const int BlockBytes = 64 << 10;

    private readonly Dictionary<(int Segment, ulong Block), byte[]> _blocks = [];

    /// <summary>At most so many bytes from an address on, and never beyond what the file has for their segment.</summary>
    public ReadOnlySpan<byte> At(ulong address, int maxBytes)
    {
        for (int i = 0; i < file.Segments.Count; i++)
        {
            ElfSegment segment = file.Segments[i];
            if (!segment.IsCode || !segment.Holds(address) || address - segment.Address >= segment.FileBytes)
            {
                continue;
            }

            ulong offset = address - segment.Address;
            int count = (int)Math.Min((ulong)Math.Max(maxBytes, 0), segment.FileBytes - offset);
            int within = (int)(offset % BlockBytes);
            byte[] block = Block(i, offset / BlockBytes);
            if (within + count <= BlockBytes)
            {
                return within < block.Length ? block.AsSpan(within, Math.Min(count, block.Length - within)) : [];
            }

            return Joined(i, offset, count);
        }

        return [];
    }

    private byte[] Joined(int segment, ulong offset, int count)
    {
        var bytes = new List<byte>(Math.Min(count, 4 * BlockBytes));
        while (count > 0)
        {
            byte[] block = Block(segment, offset / BlockBytes);
            int within = (int)(offset % BlockBytes);
            int take = Math.Min(count, block.Length - within);
            if (take <= 0)
            {
                break;
            }

            bytes.AddRange(block.AsSpan(within, take));
            offset += (ulong)take;
            count -= take;
            if (block.Length < BlockBytes)
            {
                break;
            }
        }

        return [.. bytes];
    }

    private byte[] Block(int index, ulong block)
    {
        if (_blocks.TryGetValue((index, block), out byte[]? bytes))
        {
            return bytes;
        }

        ElfSegment segment = file.Segments[index];
        ulong start = block * BlockBytes;
        ulong count = Math.Min(BlockBytes, segment.FileBytes - start);
        ulong offset = segment.Offset + start;
        bytes = [];
        if (offset >= start && offset < (ulong)file.Length && memory.TryTake(count))
        {
            bytes = new byte[Math.Min(count, (ulong)file.Length - offset)];
            if (!file.TryRead(offset, bytes))
            {
                bytes = [];
            }
        }

        return _blocks[(index, block)] = bytes;
    }
}
