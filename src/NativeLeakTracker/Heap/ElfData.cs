using System.Buffers.Binary;

namespace NativeLeaks.Heap;

/// <summary>The writable data of one loaded library or program: .data, .bss and what is between.</summary>
/// <param name="Path">Of its file.</param>
/// <param name="LoadBias">What its file's addresses are moved by.</param>
/// <param name="Start">First byte.</param>
/// <param name="End">One past the last.</param>
internal readonly record struct ElfDataRange(string Path, ulong LoadBias, ulong Start, ulong End);

/// <summary>
/// Where the loaded objects keep their globals, by the program headers that each has in memory (System V ABI, "Program Header"): the
/// map alone does not tell the end of a .bss from an anonymous mapping beside it.
/// </summary>
internal static class ElfData
{
    private const int HeaderBytes = 64;
    private const int EntryBytes = 56;
    private const int MaxEntries = 64;

    public static IEnumerable<ElfDataRange> Of(FrozenMemory memory)
    {
        foreach (MemoryMapping mapping in memory.Mappings)
        {
            // The vdso has no globals of its own; devices are not to be read.
            if (mapping.Offset == 0 && mapping.Path.StartsWith('/') && mapping.Protection.HasFlag(MemoryProtection.Read) &&
                !mapping.Path.StartsWith("/dev/", StringComparison.Ordinal) && !mapping.Path.StartsWith("/memfd:", StringComparison.Ordinal))
            {
                foreach (ElfDataRange range in Of(memory, mapping))
                {
                    yield return range;
                }
            }
        }
    }

    private static List<ElfDataRange> Of(FrozenMemory memory, MemoryMapping mapping)
    {
        const int LoadSegment = 1, WritableFlag = 2;
        List<ElfDataRange> ranges = [];
        Span<byte> header = stackalloc byte[HeaderBytes];
        if (memory.Read(mapping.Start, header) < HeaderBytes || !header.StartsWith("\u007fELF"u8) ||
            BinaryPrimitives.ReadUInt16LittleEndian(header[54..]) != EntryBytes)
        {
            return ranges;
        }

        ulong tableOffset = BinaryPrimitives.ReadUInt64LittleEndian(header[32..]);
        int count = Math.Min((int)BinaryPrimitives.ReadUInt16LittleEndian(header[56..]), MaxEntries);
        var table = new byte[count * EntryBytes];
        if (tableOffset > mapping.End - mapping.Start || memory.Read(mapping.Start + tableOffset, table) < table.Length)
        {
            return ranges;
        }

        ulong? bias = null;
        for (int at = 0; at < table.Length; at += EntryBytes)
        {
            ReadOnlySpan<byte> entry = table.AsSpan(at, EntryBytes);
            if (BinaryPrimitives.ReadUInt32LittleEndian(entry) != LoadSegment)
            {
                continue;
            }

            ulong offset = BinaryPrimitives.ReadUInt64LittleEndian(entry[8..]);
            ulong address = BinaryPrimitives.ReadUInt64LittleEndian(entry[16..]);
            ulong bytes = BinaryPrimitives.ReadUInt64LittleEndian(entry[40..]);

            // The first segment to be loaded starts at the start of the file, up to a page.
            bias ??= mapping.Start - (address - offset);
            ulong start = bias.Value + address;
            ulong end = start + bytes;
            if ((entry[4] & WritableFlag) != 0 && end > start && end < 1UL << 47)
            {
                ranges.Add(new ElfDataRange(mapping.Path, bias.Value, start, end));
            }
        }

        return ranges;
    }
}
