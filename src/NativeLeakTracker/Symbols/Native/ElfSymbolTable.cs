using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Text;

namespace NativeLeaks.Symbols.Native;

/// <summary>
/// The functions, or the variables, that the symbol tables of a library's files define, in order of address. Names are decoded when they
/// are asked for. (System V ABI, "Symbol Table".)
/// </summary>
/// <param name="ofVariables">Whether variables are meant, and not functions.</param>
internal sealed class ElfSymbolTable(bool ofVariables = false)
{
    private const int EntryBytes = 24;

    // Mangled names of some thousand characters exist; one that fills a hostile file must not be copied for each symbol.
    private const int MaxNameBytes = 16 << 10;

    private readonly List<byte[]> _names = [];
    private readonly List<Function> _all = [];
    private Function[] _functions = [];
    private ulong[] _starts = [];
    private ulong[]? _hashes;
    private int[] _byHash = [];

    /// <summary>Adds what a file's tables define: .symtab where it has one, and .dynsym. True: it has a .symtab.</summary>
    public bool Add(ElfFile file)
    {
        bool isFull = false, hasDynamic = false;
        foreach (ElfSection section in file.Sections)
        {
            // Of each type a file has one table at most; a hostile one could name the same bytes a thousand times.
            bool isSymbols = section.Type == ElfSection.SymbolTable && !isFull;
            bool isDynamic = section.Type == ElfSection.DynamicSymbols && !hasDynamic;
            if ((!isSymbols && !isDynamic) || section.Link >= (uint)file.Sections.Count)
            {
                continue;
            }

            byte[] entries = file.Read(section);
            byte[] names = entries.Length == 0 ? [] : file.Read(file.Sections[(int)section.Link]);
            if (names.Length > 0)
            {
                isFull |= isSymbols;
                hasDynamic |= isDynamic;
                Add(entries, names);
            }
        }

        Arrange();
        return isFull;
    }

    /// <summary>The function (or variable) whose bytes the address is one of.</summary>
    public FunctionExtent? Find(ulong address)
    {
        int index = AddressOrder.LastNotAbove(_starts, address);
        if (index < 0)
        {
            return null;
        }

        Function function = _functions[index];
        return address - function.Start < function.Size
            ? new FunctionExtent(NameOf(function), function.Start, function.Size)
            : null;
    }

    /// <summary>Where a function begins.</summary>
    public ulong? AddressOf(string name)
    {
        _hashes ??= HashNames();
        byte[] bytes = Encoding.UTF8.GetBytes(name);
        ulong hash = HashOf(bytes);
        int first = AddressOrder.LastNotAbove(_hashes, hash);
        ulong? found = null;
        for (int i = first; i >= 0 && _hashes[i] == hash; i--)
        {
            Function function = _all[_byHash[i]];
            if (BytesOf(function).SequenceEqual(bytes))
            {
                found = function.Start;
            }
        }

        return found;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Add(byte[] entries, byte[] names)
    {
        const int ObjectType = 1, FunctionType = 2, IndirectFunctionType = 10;
        int table = _names.Count;
        _names.Add(names);
        for (int at = 0; at + EntryBytes <= entries.Length; at += EntryBytes)
        {
            ReadOnlySpan<byte> entry = entries.AsSpan(at, EntryBytes);
            int type = entry[4] & 0xf;
            if (ofVariables ? type != ObjectType : type is not (FunctionType or IndirectFunctionType))
            {
                continue;
            }

            uint name = BinaryPrimitives.ReadUInt32LittleEndian(entry);
            ushort section = BinaryPrimitives.ReadUInt16LittleEndian(entry[6..]);
            ulong start = BinaryPrimitives.ReadUInt64LittleEndian(entry[8..]);
            ulong size = BinaryPrimitives.ReadUInt64LittleEndian(entry[16..]);
            if (section != 0 && size != 0 && start + size >= start && name < names.Length && names[name] != 0)
            {
                _all.Add(new Function(start, size, (int)name, table));
            }
        }
    }

    /// <summary>
    /// In order of address. Of several names for the same code the shortest stays (aliases carry prefixes); a function that
    /// begins inside another ends it.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Arrange()
    {
        ulong[] keys = new ulong[_all.Count];
        for (int i = 0; i < keys.Length; i++)
        {
            keys[i] = _all[i].Start;
        }

        _hashes = null;
        _functions = new Function[keys.Length];
        int count = 0;
        foreach (int index in AddressOrder.Of(keys))
        {
            Function function = _all[index];
            ref Function last = ref _functions[Math.Max(count - 1, 0)];
            if (count > 0 && last.Start == function.Start)
            {
                if (IsBetter(function, last))
                {
                    last = function;
                }

                continue;
            }

            if (count > 0 && last.Start + last.Size > function.Start)
            {
                last = last with { Size = function.Start - last.Start };
            }

            _functions[count++] = function;
        }

        Array.Resize(ref _functions, count);
        _starts = new ulong[count];
        for (int i = 0; i < count; i++)
        {
            _starts[i] = _functions[i].Start;
        }
    }

    private bool IsBetter(in Function a, in Function b)
    {
        if (a.Size != b.Size)
        {
            return a.Size > b.Size;
        }

        if (a.NameAt == b.NameAt && a.Table == b.Table)
        {
            return false;
        }

        ReadOnlySpan<byte> ofA = BytesOf(a), ofB = BytesOf(b);
        return ofA.Length != ofB.Length ? ofA.Length < ofB.Length : ofA.SequenceCompareTo(ofB) < 0;
    }

    private string NameOf(in Function function) => Encoding.UTF8.GetString(BytesOf(function));

    private ReadOnlySpan<byte> BytesOf(in Function function)
    {
        ReadOnlySpan<byte> rest = _names[function.Table].AsSpan(function.NameAt);
        rest = rest[..Math.Min(rest.Length, MaxNameBytes)];
        int end = rest.IndexOf((byte)0);
        return end < 0 ? rest : rest[..end];
    }

    private ulong[] HashNames()
    {
        ulong[] hashes = new ulong[_all.Count];
        for (int i = 0; i < hashes.Length; i++)
        {
            hashes[i] = HashOf(BytesOf(_all[i]));
        }

        _byHash = AddressOrder.Of(hashes);
        ulong[] sorted = new ulong[hashes.Length];
        for (int i = 0; i < sorted.Length; i++)
        {
            sorted[i] = hashes[_byHash[i]];
        }

        return sorted;
    }

    // FNV-1a, over the beginning only: names that lie upon each other in a hostile file must not multiply.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static ulong HashOf(ReadOnlySpan<byte> name)
    {
        ulong hash = 14695981039346656037;
        foreach (byte value in name[..Math.Min(name.Length, 256)])
        {
            hash = (hash ^ value) * 1099511628211;
        }

        return hash ^ (ulong)name.Length;
    }

    private readonly record struct Function(ulong Start, ulong Size, int NameAt, int Table);
}
