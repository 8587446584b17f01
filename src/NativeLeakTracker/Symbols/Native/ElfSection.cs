namespace NativeLeaks.Symbols.Native;

/// <summary>A section header of an ELF file. (System V ABI, "Sections".)</summary>
internal readonly record struct ElfSection(
    string Name, uint Type, ulong Flags, ulong Address, ulong Offset, ulong Size, uint Link)
{
    public const uint SymbolTable = 2, Relocations = 4, Note = 7, NoBits = 8, DynamicSymbols = 11;

    /// <summary>Whether its bytes are compressed behind a header that says how.</summary>
    public bool IsCompressed => (Flags & 0x800) != 0;
}

/// <summary>A part of an ELF file that is loaded into memory. (System V ABI, "Program Header".)</summary>
internal readonly record struct ElfSegment(ulong Address, ulong Offset, ulong FileBytes, ulong MemoryBytes, bool IsCode)
{
    public bool Holds(ulong address) => address >= Address && address - Address < MemoryBytes;
}
