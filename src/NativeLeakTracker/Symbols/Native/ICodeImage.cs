namespace NativeLeaks.Symbols.Native;

/// <summary>
/// The machine code of a library and what is known about its extents. Addresses are in the file's own numbering: those of its
/// symbol tables and program headers, whatever the place that it was loaded at.
/// </summary>
internal interface ICodeImage
{
    /// <summary>The code from an address on, at most so many bytes, and never beyond its segment; empty where there is none.</summary>
    ReadOnlySpan<byte> CodeAt(ulong address, int maxBytes);

    /// <summary>The function that holds the address: from a symbol table, else (without a name) from unwind data.</summary>
    FunctionExtent? FunctionAt(ulong address);

    /// <summary>The address of a defined function; null when the library defines none of that name.</summary>
    ulong? AddressOf(string name);

    /// <summary>The name of the function that the dynamic linker puts into an import slot (GOT); null: no such slot.</summary>
    string? ImportAt(ulong slot);
}
