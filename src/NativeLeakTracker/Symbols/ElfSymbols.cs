using System.Buffers.Binary;
using System.Text;

namespace NativeLeaks.Symbols;

/// <summary>
/// Function symbols of one ELF file on disk: .symtab where the file has one, .dynsym always. The file is read as hostile: every
/// offset is checked, and what does not fit is as if it were not there. (System V ABI, chapters "Object Files" and "Symbol Table".)
/// </summary>
internal sealed class ElfSymbols
{
    private const int MaxFileBytes = 1 << 30;
    private const int SectionHeaderBytes = 64;
    private const int SymbolBytes = 24;

    // C++ names of some thousand characters exist; a name that fills a hostile file must not be copied for each symbol.
    private const int MaxNameBytes = 4096;

    private readonly Function[] _functions;
    private readonly byte[][] _names;

    private ElfSymbols(Function[] functions, byte[][] names)
    {
        _functions = functions;
        _names = names;
    }

    public static ElfSymbols Empty { get; } = new([], []);

    /// <summary>Reads a file; any failure gives <see cref="Empty"/>.</summary>
    public static ElfSymbols Read(string path)
    {
        try
        {
            // A FIFO or device in place of a library must not hold us up: they have no length, but links to them have.
            var info = new FileInfo(path);
            info = (FileInfo?)info.ResolveLinkTarget(returnFinalTarget: true) ?? info;
            if (!info.Exists || info.Length is 0 or > MaxFileBytes)
            {
                return Empty;
            }

            return Parse(File.ReadAllBytes(info.FullName));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException
                                      or NotSupportedException)
        {
            return Empty;
        }
    }

    /// <summary>The function that contains a file address, and how far into it; null when none does.</summary>
    public (string Name, long Offset)? Find(ulong address)
    {
        int low = 0, high = _functions.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            ref readonly Function function = ref _functions[middle];
            if (address < function.Start)
            {
                high = middle - 1;
            }
            else if (address >= function.Start + function.Size)
            {
                low = middle + 1;
            }
            else
            {
                return (NameOf(function), (long)(address - function.Start));
            }
        }

        return null;
    }

    internal static ElfSymbols Parse(ReadOnlySpan<byte> file)
    {
        if (file.Length < 64 || !file[..6].SequenceEqual("\u007fELF\u0002\u0001"u8))
        {
            return Empty;
        }

        ulong sectionsAt = BinaryPrimitives.ReadUInt64LittleEndian(file[0x28..]);
        int sectionCount = BinaryPrimitives.ReadUInt16LittleEndian(file[0x3c..]);
        List<Function> functions = [];
        List<byte[]> tables = [];
        uint seen = 0;
        for (int index = 0; index < sectionCount; index++)
        {
            if (Section.TryRead(file, sectionsAt, index) is not { IsSymbolTable: true } symbols ||
                (seen & (1u << (int)symbols.Type)) != 0 ||
                Section.TryRead(file, sectionsAt, (int)symbols.Link) is not { } strings ||
                !symbols.TryGetContents(file, out ReadOnlySpan<byte> entries) ||
                !strings.TryGetContents(file, out ReadOnlySpan<byte> names))
            {
                continue;
            }

            // Of each type a file has one table at most; a hostile one could name the same bytes a thousand times.
            seen |= 1u << (int)symbols.Type;
            tables.Add(names.ToArray());
            for (int at = 0; at + SymbolBytes <= entries.Length; at += SymbolBytes)
            {
                AddFunction(functions, entries.Slice(at, SymbolBytes), names, tables.Count - 1);
            }
        }

        return new ElfSymbols(WithoutOverlaps(functions, tables), [.. tables]);
    }

    private static void AddFunction(List<Function> functions, ReadOnlySpan<byte> entry, ReadOnlySpan<byte> names, int table)
    {
        const int FunctionType = 2, IndirectFunctionType = 10;
        uint name = BinaryPrimitives.ReadUInt32LittleEndian(entry);
        int type = entry[4] & 0xf;
        ushort section = BinaryPrimitives.ReadUInt16LittleEndian(entry[6..]);
        ulong start = BinaryPrimitives.ReadUInt64LittleEndian(entry[8..]);
        ulong size = BinaryPrimitives.ReadUInt64LittleEndian(entry[16..]);
        if (type is not (FunctionType or IndirectFunctionType) || section == 0 || size == 0 || name >= names.Length ||
            start + size < start)
        {
            return;
        }

        ReadOnlySpan<byte> rest = names[(int)name..];
        rest = rest[..Math.Min(rest.Length, MaxNameBytes)];
        int end = rest.IndexOf((byte)0);
        int length = end < 0 ? rest.Length : end;
        if (length > 0)
        {
            functions.Add(new Function(start, size, (int)name, (short)length, (short)table));
        }
    }

    private string NameOf(in Function function) => Encoding.UTF8.GetString(NameBytes(function, _names));

    private static ReadOnlySpan<byte> NameBytes(in Function function, IReadOnlyList<byte[]> names) =>
        names[function.Table].AsSpan(function.NameAt, function.NameBytes);

    /// <summary>
    /// In order of address. Of several names for the same code the shortest stays (aliases carry prefixes); a function that
    /// begins inside another ends it.
    /// </summary>
    private static Function[] WithoutOverlaps(List<Function> functions, List<byte[]> names)
    {
        functions.Sort((a, b) =>
        {
            int byStart = a.Start.CompareTo(b.Start);
            int bySize = b.Size.CompareTo(a.Size);
            return byStart != 0 ? byStart
                : bySize != 0 ? bySize
                : a.NameBytes != b.NameBytes ? a.NameBytes - b.NameBytes
                : NameBytes(a, names).SequenceCompareTo(NameBytes(b, names));
        });
        List<Function> result = new(functions.Count);
        foreach (Function function in functions)
        {
            if (result.Count > 0)
            {
                Function last = result[^1];
                if (last.Start == function.Start)
                {
                    continue;
                }

                if (last.Start + last.Size > function.Start)
                {
                    result[^1] = last with { Size = function.Start - last.Start };
                }
            }

            result.Add(function);
        }

        return [.. result];
    }

    private readonly record struct Function(ulong Start, ulong Size, int NameAt, short NameBytes, short Table);

    private readonly record struct Section(uint Type, ulong Offset, ulong Size, uint Link)
    {
        public bool IsSymbolTable => Type is 2 or 11;

        public static Section? TryRead(ReadOnlySpan<byte> file, ulong sectionsAt, int index)
        {
            ulong at = sectionsAt + ((ulong)index * SectionHeaderBytes);
            if (at < sectionsAt || at + SectionHeaderBytes < at || at + SectionHeaderBytes > (ulong)file.Length)
            {
                return null;
            }

            ReadOnlySpan<byte> header = file.Slice((int)at, SectionHeaderBytes);
            return new Section(
                BinaryPrimitives.ReadUInt32LittleEndian(header[4..]),
                BinaryPrimitives.ReadUInt64LittleEndian(header[0x18..]),
                BinaryPrimitives.ReadUInt64LittleEndian(header[0x20..]),
                BinaryPrimitives.ReadUInt32LittleEndian(header[0x28..]));
        }

        public bool TryGetContents(ReadOnlySpan<byte> file, out ReadOnlySpan<byte> contents)
        {
            bool fits = Offset <= (ulong)file.Length && Size <= (ulong)file.Length - Offset;
            contents = fits ? file.Slice((int)Offset, (int)Size) : default;
            return fits;
        }
    }
}
