using System.Buffers.Binary;
using System.Reflection.PortableExecutable;

namespace NativeLeaks.Symbols.Managed;

/// <summary>
/// The native to IL maps of an assembly's precompiled code (dotnet/runtime: docs/design/coreclr/botr/readytorun-format.md;
/// readytorun.h; nativeformatreader.h). Maps of composite images, where one file holds the code of several assemblies, are
/// not looked up.
/// </summary>
internal sealed class ReadyToRunMap
{
    private const uint Signature = 0x00525452; // "RTR\0"
    private const uint RuntimeFunctions = 102, DebugInfo = 105;
    private const int FunctionBytes = 12;

    // That of .NET 10. Before and after it the maps are packed otherwise, and what another version means is not guessed at.
    private const ushort KnownVersion = 16;

    private readonly byte[] _functions;
    private readonly byte[] _debugInfo;

    private ReadyToRunMap(byte[] functions, byte[] debugInfo)
    {
        _functions = functions;
        _debugInfo = debugInfo;
    }

    private static ReadyToRunMap Empty { get; } = new([], []);

    public static ReadyToRunMap Open(PEReader? file)
    {
        try
        {
            return file?.PEHeaders.CorHeader?.ManagedNativeHeaderDirectory is { Size: > 0 } directory
                ? Read(file, directory.RelativeVirtualAddress)
                : Empty;
        }
        catch (Exception e) when (AssemblyFile.IsDamage(e))
        {
            return Empty;
        }
    }

    private static ReadyToRunMap Read(PEReader file, int headerRva)
    {
        SectionBytes header = At(file, headerRva);
        if (header.U32(0) != Signature || header.U16(4) != KnownVersion)
        {
            return Empty;
        }

        byte[] functions = [], debugInfo = [];
        uint sections = Math.Min(header.U32(12), 64);
        for (uint i = 0; i < sections; i++)
        {
            int at = 16 + ((int)i * 12);
            uint type = header.U32(at);
            if (type is RuntimeFunctions or DebugInfo)
            {
                byte[] contents = At(file, (int)header.U32(at + 4)).Take((int)header.U32(at + 8));
                (functions, debugInfo) = type == RuntimeFunctions ? (contents, debugInfo) : (functions, contents);
            }
        }

        return new ReadyToRunMap(functions, debugInfo);
    }

    /// <summary>The map of the body that begins at a relative address; empty when there is none.</summary>
    public ReadOnlySpan<byte> Find(uint rva)
    {
        try
        {
            int index = IndexOf(rva);
            return index >= 0 && TryFindEntry((uint)index, out int entry) ? Bounds(entry) : default;
        }
        catch (Exception e) when (AssemblyFile.IsDamage(e))
        {
            return default;
        }
    }

    private int IndexOf(uint rva)
    {
        int low = 0, high = (_functions.Length / FunctionBytes) - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            uint start = BinaryPrimitives.ReadUInt32LittleEndian(_functions.AsSpan(middle * FunctionBytes));
            if (start == rva)
            {
                return middle;
            }

            (low, high) = start < rva ? (middle + 1, high) : (low, middle - 1);
        }

        return -1;
    }

    /// <summary>
    /// A sparse array: blocks of 16 entries, each a binary tree whose inner nodes say by two bits which children they have
    /// (nativeformatreader.h: NativeArray).
    /// </summary>
    private bool TryFindEntry(uint index, out int entry)
    {
        const uint BlockSize = 16;
        entry = 0;
        int at = 0;
        uint header = Number(ref at);
        int width = (int)(header & 3);
        if (index >= header >> 2 || width > 2)
        {
            return false;
        }

        int slot = at + (int)((index / BlockSize) << width);
        ReadOnlySpan<byte> bytes = _debugInfo.AsSpan(slot);
        uint offset = width switch
        {
            0 => bytes[0],
            1 => BinaryPrimitives.ReadUInt16LittleEndian(bytes),
            _ => BinaryPrimitives.ReadUInt32LittleEndian(bytes),
        };
        int node = checked(at + (int)offset);
        for (uint bit = BlockSize >> 1; bit > 0; bit >>= 1)
        {
            int next = node;
            uint value = Number(ref next);
            if ((index & bit) != 0 ? (value & 2) != 0 : (value & 1) != 0)
            {
                node = (index & bit) != 0 ? checked(node + (int)(value >> 2)) : next;
                continue;
            }

            // A leaf higher up: all of the block's other entries are missing.
            if ((value & 3) != 0 || value >> 2 != (index & (BlockSize - 1)))
            {
                return false;
            }

            node = next;
            break;
        }

        entry = node;
        return true;
    }

    /// <summary>An entry says how far back its information stands, or 0: right here.</summary>
    private ReadOnlySpan<byte> Bounds(int entry)
    {
        int at = entry;
        uint back = Number(ref at);
        int info = back != 0 ? checked(entry - (int)back) : at;
        ReadOnlySpan<byte> bytes = _debugInfo.AsSpan(info);
        var numbers = new NibbleReader(bytes);
        if (!numbers.TryRead(out uint size) || size == uint.MaxValue || !numbers.TryRead(out _))
        {
            return default;
        }

        return bytes.Slice(numbers.BytesRead, checked((int)size));
    }

    /// <summary>A number of one to five bytes; the low bits of the first say how many.</summary>
    private uint Number(ref int at)
    {
        ReadOnlySpan<byte> bytes = _debugInfo.AsSpan(at);
        int first = bytes[0];
        (int length, uint value) = (first & 0xf) switch
        {
            var b when (b & 1) == 0 => (1, (uint)first >> 1),
            var b when (b & 2) == 0 => (2, (uint)BinaryPrimitives.ReadUInt16LittleEndian(bytes) >> 2),
            var b when (b & 4) == 0 => (3, (BinaryPrimitives.ReadUInt16LittleEndian(bytes) | ((uint)bytes[2] << 16)) >> 3),
            var b when (b & 8) == 0 => (4, BinaryPrimitives.ReadUInt32LittleEndian(bytes) >> 4),
            _ => (5, BinaryPrimitives.ReadUInt32LittleEndian(bytes[1..])),
        };
        at += length;
        return value;
    }

    private static SectionBytes At(PEReader file, int rva) => new(file.GetSectionData(rva));

    /// <summary>The rest of a section from a relative address on.</summary>
    private readonly struct SectionBytes(PEMemoryBlock block)
    {
        public ushort U16(int at) => block.GetReader(at, 2).ReadUInt16();

        public uint U32(int at) => block.GetReader(at, 4).ReadUInt32();

        public byte[] Take(int bytes) => block.GetReader(0, bytes).ReadBytes(bytes);
    }
}
