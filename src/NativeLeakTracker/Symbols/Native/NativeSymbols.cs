namespace NativeLeaks.Symbols.Native;

/// <summary>
/// What is known about the code of one native library: names of functions with inlined ones, source lines, extents, the code
/// itself. Everything is read when it is first asked for; a part that is missing or damaged costs names, and <see cref="Problems"/>
/// tells. For one caller at a time.
/// </summary>
internal sealed class NativeSymbols : ICodeImage, IDisposable
{
    private readonly MemoryAllowance _memory = new();
    private readonly SymbolProblems _problems = new();
    private readonly ElfFile? _file;
    private readonly MachineCode? _code;
    private ElfSymbolTable? _table;
    private UnwindExtents? _extents;
    private ImportSlots? _imports;
    private bool _hasSymbolTable;

    private NativeSymbols(string path, SymbolSettings settings)
    {
        Path = path;
        _ = settings;
        _file = ElfFile.TryOpen(path, _memory, _problems);
        _code = _file is null ? null : new MachineCode(_file, _memory);
    }

    /// <summary>The library as it was asked for.</summary>
    public string Path { get; }

    /// <summary>What identifies its build, in lower-case hexadecimal digits.</summary>
    public string? BuildId => _file?.BuildId;

    /// <summary>What was damaged, refused or skipped: one line each.</summary>
    public IReadOnlyList<string> Problems => _problems.Lines;

    /// <summary>Opens a library; one that is missing or no library is as if it were empty.</summary>
    public static NativeSymbols Open(string path, SymbolSettings settings) => new(path, settings);

    /// <summary>Closes the files; nothing new is read after.</summary>
    public void Dispose() => _file?.Dispose();

    /// <summary>
    /// The functions at an address, innermost first: those that were inlined there, then the one that they are in. Empty when
    /// nothing is known.
    /// </summary>
    public IReadOnlyList<SourceFrame> Find(ulong address) =>
        Table.Find(address) is { } function ? [new SourceFrame(function.Name, null, 0, false)] : [];

    public ReadOnlySpan<byte> CodeAt(ulong address, int maxBytes) => _code is null ? [] : _code.At(address, maxBytes);

    public FunctionExtent? FunctionAt(ulong address) =>
        Table.Find(address) ?? (_file is null ? null : (_extents ??= UnwindExtents.Read(_file)).Find(address));

    public ulong? AddressOf(string name) => Table.AddressOf(name);

    public string? ImportAt(ulong slot) => _file is null ? null : (_imports ??= ImportSlots.Read(_file)).NameAt(slot);

    private ElfSymbolTable Table
    {
        get
        {
            if (_table is null)
            {
                _table = new ElfSymbolTable();
                _hasSymbolTable = _file is not null && _table.Add(_file);
            }

            return _table;
        }
    }

    /// <summary>Whether no symbol table but that of exported functions was found, and no debug information.</summary>
    public bool IsStripped => Table is not null && !_hasSymbolTable;
}
