using System.Buffers.Binary;
using System.Text;

namespace NativeLeaks.Symbols.Native;

/// <summary>The slots (GOT) that the dynamic linker fills with addresses of functions, and the functions' names.</summary>
internal sealed class ImportSlots
{
    private const int RelocationBytes = 24, SymbolBytes = 24, MaxNameBytes = 16 << 10;

    private readonly Dictionary<ulong, uint> _symbols = [];
    private byte[] _entries = [];
    private byte[] _names = [];

    public static ImportSlots Read(ElfFile file)
    {
        const uint GlobalData = 6, JumpSlot = 7;
        var slots = new ImportSlots();
        ElfSection? dynamic = null;
        foreach (ElfSection section in file.Sections)
        {
            if (section.Type == ElfSection.DynamicSymbols && section.Link < (uint)file.Sections.Count)
            {
                dynamic = section;
                break;
            }
        }

        if (dynamic is not { } symbols)
        {
            return slots;
        }

        slots._entries = file.Read(symbols);
        slots._names = file.Read(file.Sections[(int)symbols.Link]);
        foreach (string name in (ReadOnlySpan<string>)[".rela.plt", ".rela.dyn"])
        {
            byte[] relocations = file.Read(name);
            for (int at = 0; at + RelocationBytes <= relocations.Length; at += RelocationBytes)
            {
                ReadOnlySpan<byte> relocation = relocations.AsSpan(at, RelocationBytes);
                ulong info = BinaryPrimitives.ReadUInt64LittleEndian(relocation[8..]);
                if ((uint)info is GlobalData or JumpSlot)
                {
                    slots._symbols.TryAdd(BinaryPrimitives.ReadUInt64LittleEndian(relocation), (uint)(info >> 32));
                }
            }
        }

        return slots;
    }

    public string? NameAt(ulong slot)
    {
        if (!_symbols.TryGetValue(slot, out uint symbol) || ((long)symbol + 1) * SymbolBytes > _entries.Length)
        {
            return null;
        }

        uint at = BinaryPrimitives.ReadUInt32LittleEndian(_entries.AsSpan((int)symbol * SymbolBytes));
        if (at >= _names.Length)
        {
            return null;
        }

        ReadOnlySpan<byte> rest = _names.AsSpan((int)at);
        rest = rest[..Math.Min(rest.Length, MaxNameBytes)];
        int end = rest.IndexOf((byte)0);
        return end <= 0 ? null : Encoding.UTF8.GetString(rest[..end]);
    }
}
