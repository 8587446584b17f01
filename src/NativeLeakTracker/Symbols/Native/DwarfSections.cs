namespace NativeLeaks.Symbols.Native;

/// <summary>The sections of one file that hold debug information, each read when it is first asked for.</summary>
internal sealed class DwarfSections(ElfFile file, DwarfLimits limits)
{
    private byte[]? _info, _abbreviations, _lines, _strings, _lineStrings, _stringOffsets, _addresses, _ranges, _rangeLists, _aranges;

    public ElfFile File => file;

    public byte[] Info => _info ??= Read("info");

    public byte[] Abbreviations => _abbreviations ??= Read("abbrev");

    public byte[] Lines => _lines ??= Read("line");

    public byte[] Strings => _strings ??= Read("str");

    public byte[] LineStrings => _lineStrings ??= Read("line_str");

    public byte[] StringOffsets => _stringOffsets ??= Read("str_offsets");

    public byte[] Addresses => _addresses ??= Read("addr");

    public byte[] Ranges => _ranges ??= Read("ranges");

    public byte[] RangeLists => _rangeLists ??= Read("rnglists");

    public byte[] AddressRanges => _aranges ??= Read("aranges");

    /// <summary>Whether a file has any debug information that is read here.</summary>
    public static bool AreIn(ElfFile file) => file.Has(".debug_info") || file.Has(".zdebug_info");

    private byte[] Read(string name)
    {
        byte[] bytes = file.Has(".debug_" + name) ? file.Read(".debug_" + name) : file.Read(".zdebug_" + name);
        limits.AddBytes(bytes.Length);
        return bytes;
    }
}
