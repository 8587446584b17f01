namespace NativeLeaks.Symbols.Native;

/// <summary>A function at a native address as the source has it: one of several where calls were inlined.</summary>
/// <param name="Function">Linkage name as the file has it, mangled where it is; null when no function is known.</param>
/// <param name="File">Source file with its folder; null when unknown.</param>
/// <param name="Line">Line in it; 0 when unknown.</param>
/// <param name="IsInlined">Whether the compiler inlined this function into the next one of the list.</param>
internal readonly record struct SourceFrame(string? Function, string? File, int Line, bool IsInlined);

/// <summary>A function in the machine code of a library, as its symbol tables or unwind data tell it.</summary>
/// <param name="Name">Linkage name; null where only the extent is known.</param>
/// <param name="Start">Address in the file's own numbering (the symbol's value).</param>
/// <param name="Size">Bytes.</param>
internal readonly record struct FunctionExtent(string? Name, ulong Start, ulong Size)
{
    public bool Contains(ulong address) => address >= Start && address - Start < Size;
}
