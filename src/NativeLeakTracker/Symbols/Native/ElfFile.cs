using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using Microsoft.Win32.SafeHandles;
using NativeLeaks.Files;

namespace NativeLeaks.Symbols.Native;

/// <summary>
/// One ELF file for x86-64: its sections, segments and build-id. Sections are read when they are asked for, and not mapped: a
/// file that is truncated while it is mapped kills its reader. The file is read as hostile: every offset is checked, and what
/// does not fit is as if it were not there. (System V ABI, "Object Files".)
/// </summary>
internal sealed class ElfFile : IDisposable
{
    private const int HeaderBytes = 64, SectionHeaderBytes = 64, SegmentHeaderBytes = 56;

    // Libraries have some forty sections; object files with one for each function are not asked for symbols.
    private const int MaxSections = 1 << 16, MaxSegments = 1 << 10;
    private const int MaxNoteBytes = 1 << 16, MaxSectionNameBytes = 128;

    // No stream of deflate's format makes more than this of a byte (RFC 1951: a block of the shortest codes for 258 bytes each).
    private const ulong MaxInflation = 1032;

    private readonly RegularFile _file;
    private readonly long _length;
    private readonly MemoryAllowance _memory;
    private readonly SymbolProblems _problems;
    private readonly List<ElfSection> _sections = [];
    private readonly List<ElfSegment> _segments = [];

    private ElfFile(string path, RegularFile file, MemoryAllowance memory, SymbolProblems problems)
    {
        Path = path;
        _file = file;
        _length = file.LengthBytes;
        _memory = memory;
        _problems = problems;
    }

    public string Path { get; }

    public long Length => _length;

    public IReadOnlyList<ElfSection> Sections => _sections;

    /// <summary>The parts that are loaded.</summary>
    public IReadOnlyList<ElfSegment> Segments => _segments;

    /// <summary>What identifies the build, in lower-case hexadecimal digits.</summary>
    public string? BuildId { get; private set; }

    /// <summary>Opens a file; null when it is none, or of another kind.</summary>
    public static ElfFile? TryOpen(string path, MemoryAllowance memory, SymbolProblems problems)
    {
        if (RegularFile.TryOpen(path) is not { } opened)
        {
            return null;
        }

        var file = new ElfFile(path, opened, memory, problems);
        if (file.ReadHeaders())
        {
            return file;
        }

        file.Dispose();
        return null;
    }

    public void Dispose() => _file.Dispose();

    public ElfSection? Section(string name)
    {
        foreach (ElfSection section in _sections)
        {
            if (section.Name == name)
            {
                return section;
            }
        }

        return null;
    }

    /// <summary>Whether there is such a section and the file has bytes for it.</summary>
    public bool Has(string name) => Section(name) is { Type: not ElfSection.NoBits, Size: > 0 };

    /// <summary>The bytes of a section, inflated; empty when it is not there or cannot be had.</summary>
    public byte[] Read(string name) => Section(name) is { } section ? Read(section) : [];

    /// <summary>The bytes of a section, inflated; empty when they cannot be had.</summary>
    public byte[] Read(in ElfSection section)
    {
        if (section.Type == ElfSection.NoBits || section.Size == 0)
        {
            return [];
        }

        if (section.Offset > (ulong)_length || section.Size > (ulong)_length - section.Offset)
        {
            _problems.Add(Path, $"{section.Name} lies beyond the end of the file");
            return [];
        }

        if (!TryAllocate(section.Name, section.Size, out byte[] bytes))
        {
            return [];
        }

        if (!_file.TryRead((long)section.Offset, bytes))
        {
            _problems.Add(Path, $"{section.Name} cannot be read");
            _memory.Return(section.Size);
            return [];
        }

        if (section.IsCompressed)
        {
            return Inflate(section, bytes);
        }

        return section.Name.StartsWith(".zdebug_", StringComparison.Ordinal) ? InflateOldStyle(section, bytes) : bytes;
    }

    /// <summary>Bytes of the file as they lie there; false when it has not so many.</summary>
    public bool TryRead(ulong offset, Span<byte> buffer) =>
        offset <= (ulong)_length && (ulong)buffer.Length <= (ulong)_length - offset &&
        _file.TryRead((long)offset, buffer);

    private bool ReadHeaders()
    {
        Span<byte> header = stackalloc byte[HeaderBytes];
        const int X64 = 62;
        if (!TryRead(0, header) || !header[..6].SequenceEqual("\u007fELF\u0002\u0001"u8) ||
            BinaryPrimitives.ReadUInt16LittleEndian(header[0x12..]) != X64)
        {
            return false;
        }

        ReadSegments(
            BinaryPrimitives.ReadUInt64LittleEndian(header[0x20..]), BinaryPrimitives.ReadUInt16LittleEndian(header[0x38..]));
        ReadSections(
            BinaryPrimitives.ReadUInt64LittleEndian(header[0x28..]),
            BinaryPrimitives.ReadUInt16LittleEndian(header[0x3c..]),
            BinaryPrimitives.ReadUInt16LittleEndian(header[0x3e..]));
        foreach (ElfSection section in _sections)
        {
            if (section.Type == ElfSection.Note && BuildId is null)
            {
                ReadBuildId(section.Offset, section.Size);
            }
        }

        return true;
    }

    private void ReadSegments(ulong at, int count)
    {
        const uint Load = 1, Notes = 4, Executable = 1;
        byte[] headers = new byte[Math.Min(count, MaxSegments) * SegmentHeaderBytes];
        if (!TryRead(at, headers))
        {
            _problems.Add(Path, "its program headers lie beyond the end of the file");
            return;
        }

        for (int i = 0; i < headers.Length; i += SegmentHeaderBytes)
        {
            ReadOnlySpan<byte> header = headers.AsSpan(i, SegmentHeaderBytes);
            uint type = BinaryPrimitives.ReadUInt32LittleEndian(header);
            uint flags = BinaryPrimitives.ReadUInt32LittleEndian(header[4..]);
            ulong offset = BinaryPrimitives.ReadUInt64LittleEndian(header[8..]);
            ulong address = BinaryPrimitives.ReadUInt64LittleEndian(header[16..]);
            ulong fileBytes = BinaryPrimitives.ReadUInt64LittleEndian(header[32..]);
            ulong memoryBytes = BinaryPrimitives.ReadUInt64LittleEndian(header[40..]);
            if (type == Load)
            {
                _segments.Add(new ElfSegment(address, offset, fileBytes, memoryBytes, (flags & Executable) != 0));
            }
            else if (type == Notes && BuildId is null)
            {
                ReadBuildId(offset, fileBytes);
            }
        }
    }

    private void ReadSections(ulong at, int count, int namesIndex)
    {
        if (at == 0)
        {
            return;
        }

        // A file with more sections than sixteen bits can tell has their number, and that of their names, in the first of them.
        Span<byte> first = stackalloc byte[SectionHeaderBytes];
        if (!TryRead(at, first))
        {
            _problems.Add(Path, "its section headers lie beyond the end of the file");
            return;
        }

        ulong number = count != 0 ? (ulong)count : BinaryPrimitives.ReadUInt64LittleEndian(first[0x20..]);
        ulong names = namesIndex != 0xffff ? (ulong)namesIndex : BinaryPrimitives.ReadUInt32LittleEndian(first[0x28..]);
        if (number > MaxSections)
        {
            _problems.Add(Path, $"{number} sections are too many");
            return;
        }

        byte[] headers = new byte[(int)number * SectionHeaderBytes];
        if (!TryRead(at, headers))
        {
            _problems.Add(Path, "its section headers lie beyond the end of the file");
            return;
        }

        byte[] text = [];
        if (names < number)
        {
            ReadOnlySpan<byte> header = headers.AsSpan((int)names * SectionHeaderBytes, SectionHeaderBytes);
            ulong offset = BinaryPrimitives.ReadUInt64LittleEndian(header[0x18..]);
            ulong size = BinaryPrimitives.ReadUInt64LittleEndian(header[0x20..]);
            text = new byte[Math.Min(size, (ulong)MaxSections * 64)];
            if (!TryRead(offset, text))
            {
                text = [];
            }
        }

        for (int i = 0; i < headers.Length; i += SectionHeaderBytes)
        {
            ReadOnlySpan<byte> header = headers.AsSpan(i, SectionHeaderBytes);
            _sections.Add(new ElfSection(
                NameAt(text, BinaryPrimitives.ReadUInt32LittleEndian(header)),
                BinaryPrimitives.ReadUInt32LittleEndian(header[4..]),
                BinaryPrimitives.ReadUInt64LittleEndian(header[8..]),
                BinaryPrimitives.ReadUInt64LittleEndian(header[0x10..]),
                BinaryPrimitives.ReadUInt64LittleEndian(header[0x18..]),
                BinaryPrimitives.ReadUInt64LittleEndian(header[0x20..]),
                BinaryPrimitives.ReadUInt32LittleEndian(header[0x28..])));
        }
    }

    private static string NameAt(byte[] text, uint at)
    {
        if (at >= text.Length)
        {
            return "";
        }

        ReadOnlySpan<byte> rest = text.AsSpan((int)at);
        rest = rest[..Math.Min(rest.Length, MaxSectionNameBytes)];
        int end = rest.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? rest : rest[..end]);
    }

    private void ReadBuildId(ulong offset, ulong size)
    {
        const uint GnuBuildId = 3;
        byte[] notes = new byte[Math.Min(size, MaxNoteBytes)];
        if (!TryRead(offset, notes))
        {
            return;
        }

        var cursor = new ByteCursor(notes, 0, notes.Length);
        while (cursor.Left >= 12)
        {
            uint nameBytes = cursor.U32(), idBytes = cursor.U32(), type = cursor.U32();
            int name = cursor.At;
            cursor.Skip(Padded(nameBytes));
            int id = cursor.At;
            cursor.Skip(Padded(idBytes));
            if (cursor.Failed)
            {
                return;
            }

            if (type == GnuBuildId && nameBytes == 4 && notes.AsSpan(name, 4).SequenceEqual("GNU\0"u8) && idBytes is >= 2 and <= 64)
            {
                BuildId = Convert.ToHexStringLower(notes.AsSpan(id, (int)idBytes));
                return;
            }
        }

        static ulong Padded(uint bytes) => ((ulong)bytes + 3) & ~3UL;
    }

    private byte[] Inflate(in ElfSection section, byte[] bytes)
    {
        const int ChunkHeaderBytes = 24;
        const uint Zlib = 1;
        if (bytes.Length < ChunkHeaderBytes)
        {
            return Refuse(section, bytes, "is damaged");
        }

        uint type = BinaryPrimitives.ReadUInt32LittleEndian(bytes);
        ulong size = BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(8));
        return type == Zlib
            ? Inflate(section, bytes, ChunkHeaderBytes, size)
            : Refuse(section, bytes, type == 2 ? "is compressed with zstd, which cannot be read" : $"is compressed in an unknown way ({type})");
    }

    // What came before the flag: "ZLIB" and the size with its highest byte first.
    private byte[] InflateOldStyle(in ElfSection section, byte[] bytes) =>
        bytes.AsSpan().StartsWith("ZLIB"u8) && bytes.Length >= 12
            ? Inflate(section, bytes, 12, BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(4)))
            : Refuse(section, bytes, "is damaged");

    private byte[] Inflate(in ElfSection section, byte[] packed, int skip, ulong size)
    {
        // The claim is checked before memory is taken for it.
        if (size > ((ulong)packed.Length * MaxInflation) + 64)
        {
            return Refuse(section, packed, $"claims {size} bytes, more than its compressed ones can be");
        }

        if (!TryAllocate(section.Name, size, out byte[] bytes))
        {
            _memory.Return((ulong)packed.Length);
            return [];
        }

        try
        {
            using var stream = new ZLibStream(new MemoryStream(packed, skip, packed.Length - skip), CompressionMode.Decompress);
            stream.ReadExactly(bytes);
        }
        catch (Exception e) when (e is IOException or InvalidDataException)
        {
            _memory.Return(size);
            return Refuse(section, packed, "cannot be inflated");
        }

        _memory.Return((ulong)packed.Length);
        return bytes;
    }

    private byte[] Refuse(in ElfSection section, byte[] bytes, string why)
    {
        _memory.Return((ulong)bytes.Length);
        _problems.Add(Path, $"{section.Name} {why}");
        return [];
    }

    private bool TryAllocate(string name, ulong size, out byte[] bytes)
    {
        if (size <= (ulong)Array.MaxLength && _memory.TryTake(size))
        {
            bytes = GC.AllocateUninitializedArray<byte>((int)size);
            return true;
        }

        _problems.Add(Path, $"{name} has {size} bytes, more than is read");
        bytes = [];
        return false;
    }
}
