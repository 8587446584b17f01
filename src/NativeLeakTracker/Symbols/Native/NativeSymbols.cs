namespace NativeLeaks.Symbols.Native;

/// <summary>
/// What is known about the code of one native library: names of functions with inlined ones, source lines, extents, the code
/// itself. Everything is read when it is first asked for; a part that is missing or damaged costs names, and <see cref="Problems"/>
/// tells. For one caller at a time.
/// </summary>
internal sealed class NativeSymbols : ICodeImage, IDisposable
{
    // Compilers inline some tens of levels deep; a hostile file claims any number.
    private const int MaxInlined = 256;

    private readonly MemoryAllowance _memory = new();
    private readonly SymbolProblems _problems = new();
    private readonly SymbolSettings _settings;
    private readonly DebugFileSearch _search;
    private readonly ElfFile? _file;
    private readonly MachineCode? _code;
    private readonly List<ElfFile> _supplements = [];
    private ElfFile? _debugFile;
    private ElfSymbolTable? _table, _variables;
    private UnwindExtents? _extents;
    private ImportSlots? _imports;
    private DwarfInfo? _dwarf;
    private string? _advice;
    private bool _hasSymbolTable, _hasSearched, _hasLookedForDwarf;

    private NativeSymbols(string path, SymbolSettings settings, bool namesOnly)
    {
        Path = path;
        _hasSearched = _hasLookedForDwarf = namesOnly;
        _settings = settings;
        _search = new DebugFileSearch(settings, _memory, _problems);
        _file = ElfFile.TryOpen(path, _memory, _problems);
        _code = _file is null ? null : new MachineCode(_file, _memory);
    }

    /// <summary>The library as it was asked for.</summary>
    public string Path { get; }

    /// <summary>What identifies its build, in lower-case hexadecimal digits.</summary>
    public string? BuildId => _file?.BuildId;

    /// <summary>Whether there is neither a symbol table but that of exported functions nor debug information, here or elsewhere.</summary>
    public bool IsStripped => _file is not null && Table is not null && !_hasSymbolTable && Dwarf is null;

    /// <summary>How to get the symbols of a stripped library, in one line; null for others.</summary>
    public string? Advice => IsStripped ? _advice ??= new InstallAdvice().For(Path, BuildId) : null;

    /// <summary>What was damaged, refused or skipped: one line each.</summary>
    public IReadOnlyList<string> Problems => _problems.Lines;

    /// <summary>Opens a library; one that is missing or no library is as if it were empty.</summary>
    /// <param name="path">The library's file.</param>
    /// <param name="settings">Where debug files may be looked for.</param>
    /// <param name="namesOnly">Whether the names in the file's own symbol tables will do: no debug file is looked for.</param>
    public static NativeSymbols Open(string path, SymbolSettings settings, bool namesOnly = false) => new(path, settings, namesOnly);

    /// <summary>Closes the files; nothing new is read after.</summary>
    public void Dispose()
    {
        _file?.Dispose();
        _debugFile?.Dispose();
        foreach (ElfFile supplement in _supplements)
        {
            supplement.Dispose();
        }
    }

    /// <summary>
    /// The functions at an address, innermost first: those that were inlined there, then the one that they are in. Empty when
    /// nothing is known.
    /// </summary>
    public IReadOnlyList<SourceFrame> Find(ulong address)
    {
        if (_file is null)
        {
            return [];
        }

        if (Dwarf is not { } dwarf || dwarf.UnitAt(address) is not { } unit)
        {
            return Table.Find(address) is { } function ? [new SourceFrame(function.Name, null, 0, false)] : [];
        }

        DwarfScopes scopes = dwarf.ScopesOf(unit);
        DwarfLines lines = dwarf.LinesOf(unit);
        (int File, int Line) place = lines.Find(address) ?? (-1, 0);
        int index = scopes.Find(address);
        if (index < 0)
        {
            // Code that debug information does not call a function: assembler's, or what the linker made.
            string? name = Table.Find(address)?.Name;
            string? file = FileOf(lines, place.File);
            return name is null && file is null ? [] : [new SourceFrame(name, file, place.Line, false)];
        }

        List<SourceFrame> frames = [];
        for (int depth = 0; index >= 0 && depth <= MaxInlined; depth++)
        {
            DwarfScope scope = scopes[index];
            frames.Add(new SourceFrame(NameOf(dwarf, unit, scope, address), FileOf(lines, place.File), place.Line, scope.IsInlined));
            place = (scope.CallFile, scope.CallLine);
            index = scope.Parent;
        }

        if (index >= 0)
        {
            _problems.Add(Path, $"more than {MaxInlined} functions inlined into each other; the outer ones are left out");
        }

        return frames;
    }

    public ReadOnlySpan<byte> CodeAt(ulong address, int maxBytes) => _code is null ? [] : _code.At(address, maxBytes);

    public FunctionExtent? FunctionAt(ulong address) =>
        Table.Find(address) ?? (_file is null ? null : (_extents ??= UnwindExtents.Read(_file)).Find(address));

    public ulong? AddressOf(string name) => Table.AddressOf(name);

    /// <summary>The variable whose bytes the address is one of, by the symbol tables; null where none is known.</summary>
    public FunctionExtent? VariableAt(ulong address)
    {
        if (_variables is null)
        {
            _variables = new ElfSymbolTable(ofVariables: true);
            if (_file is not null && !_variables.Add(_file) && DebugFile is { } file)
            {
                _variables.Add(file);
            }
        }

        return _variables.Find(address);
    }

    public string? ImportAt(ulong slot) => _file is null ? null : (_imports ??= ImportSlots.Read(_file)).NameAt(slot);

    /// <summary>The address of a byte of the file, where it is code; null for others.</summary>
    public ulong? AddressAt(ulong fileOffset)
    {
        foreach (ElfSegment segment in _file?.Segments ?? [])
        {
            if (segment.IsCode && fileOffset >= segment.Offset && fileOffset - segment.Offset < segment.FileBytes)
            {
                return segment.Address + (fileOffset - segment.Offset);
            }
        }

        return null;
    }

    private string? FileOf(DwarfLines lines, int file) => lines.PathOf(file) is { } path ? _settings.Map(path) : null;

    // Without a linkage name, that of the symbol tells more, if it is about the same function: it has the namespace in it.
    private string? NameOf(DwarfInfo dwarf, DwarfUnit unit, in DwarfScope scope, ulong address)
    {
        DwarfName name = dwarf.NameOf(scope.Entry);
        if (name.IsLinkageName || scope.IsInlined || (name.Text is not null && unit.HasPlainNames))
        {
            return name.Text;
        }

        FunctionExtent? symbol = Table.Find(scope.Start);
        return symbol?.Start == scope.Start || name.Text is null && symbol?.Contains(address) == true ? symbol.Value.Name : name.Text;
    }

    private ElfSymbolTable Table
    {
        get
        {
            if (_table is null)
            {
                _table = new ElfSymbolTable();
                _hasSymbolTable = _file is not null && _table.Add(_file);
                if (!_hasSymbolTable && DebugFile is { } file)
                {
                    _hasSymbolTable = _table.Add(file);
                }
            }

            return _table;
        }
    }

    private DwarfInfo? Dwarf
    {
        get
        {
            if (!_hasLookedForDwarf && _file is not null)
            {
                _hasLookedForDwarf = true;
                ElfFile? file = DwarfSections.AreIn(_file) ? _file : DebugFile;
                if (file is not null && DwarfSections.AreIn(file))
                {
                    var code = new CodeRegions(_file);
                    _dwarf = new DwarfInfo(file, code, _problems, () => OpenSupplement(file, code));
                }
            }

            return _dwarf;
        }
    }

    private ElfFile? DebugFile
    {
        get
        {
            if (!_hasSearched && _file is not null)
            {
                _hasSearched = true;
                _debugFile = _search.Find(_file);
            }

            return _debugFile;
        }
    }

    private DwarfInfo? OpenSupplement(ElfFile file, CodeRegions code)
    {
        if (_search.FindSupplement(file) is not { } supplement)
        {
            return null;
        }

        // A supplement has no supplement.
        _supplements.Add(supplement);
        return new DwarfInfo(supplement, code, _problems, static () => null);
    }
}
