using NativeLeaks.Ledger;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Symbols;

/// <summary>Names the native frames of a ledger, from the files of its libraries. Caches; one caller at a time.</summary>
internal sealed class NativeFrames(LedgerReader ledger, SymbolSettings settings) : IDisposable
{
    private readonly Dictionary<uint, Library> _libraries = [];
    private readonly Dictionary<string, Library> _byPath = [];

    /// <summary>What keeps names or lines from libraries that stood in stacks: stripped, damaged. One line each.</summary>
    public IReadOnlyList<string> Notes =>
    [
        .. _byPath.Values.Where(static l => l is { Role: ModuleRole.Other, IsOpen: true }).Select(static l => l.Symbols)
            .SelectMany(static s => (s.Advice is { } advice ? (IEnumerable<string>)[$"{Path.GetFileName(s.Path)}: {advice}"] : []).Concat(s.Problems)),
    ];

    /// <summary>Where the program's libraries define a function; null when none, or more than one of a library's name, does.</summary>
    /// <param name="function">Its linkage name.</param>
    /// <param name="library">What a P/Invoke calls the library, with or without prefix and suffix; null: any library.</param>
    public (ICodeImage Image, ulong Address)? Definition(string function, string? library)
    {
        for (uint id = 1; id < ledger.Modules.Length; id++)
        {
            ModuleEntry module = ledger.Module(id);
            string path = ledger.Text(module.Path);
            if (path.Length > 0 && (library is null || IsNamed(Path.GetFileName(path), library)) &&
                LibraryOf(id, module).Symbols is var symbols && symbols.AddressOf(function) is { } address)
            {
                return (symbols, address);
            }
        }

        return null;
    }

    public PhysicalFrame Find(in ContextEntry node, ulong instruction)
    {
        ModuleEntry module = ledger.Module(node.Object);
        Library library = LibraryOf(node.Object, module);
        ulong address = instruction - module.LoadBias;
        FunctionExtent? function = library.Symbols.FunctionAt(address);
        LeakFrameKind kind = library.Role == ModuleRole.DotnetRuntime ? LeakFrameKind.Runtime : LeakFrameKind.Native;
        string fileName = Path.GetFileName(library.Symbols.Path);
        long distance = (long)(node.Pc - instruction);

        List<ResolvedFrame> frames = [];
        foreach (SourceFrame source in library.Symbols.Find(address))
        {
            bool isFunction = !source.IsInlined && function is { Name: not null };
            string? name = source.Function is null ? null : Demangler.Demangle(source.Function);
            var frame = new LeakFrame(kind, name, fileName)
            {
                Symbol = name == source.Function ? null : source.Function,
                Offset = isFunction ? (long)(address - function!.Value.Start) + distance : name is null ? (long)address + distance : null,
                File = source.File,
                Line = source.Line > 0 ? source.Line : null,
                Inlined = source.IsInlined,
                Address = node.Pc,
            };
            frames.Add(new ResolvedFrame(frame, library.Role));
        }

        if (frames.Count == 0)
        {
            var frame = new LeakFrame(kind, null, fileName) { Offset = (long)address + distance, Address = node.Pc };
            frames.Add(new ResolvedFrame(frame, library.Role));
        }

        return new PhysicalFrame(
            frames, !node.Flags.HasFlag(NodeFlags.ExactPc), Native: new NativePlace(library.Symbols, node.Pc - module.LoadBias, function));
    }

    // "sqlite3" is libsqlite3.so.0; so are "libsqlite3", "libsqlite3.so" and a path of it.
    private static bool IsNamed(string file, string import)
    {
        string name = Path.GetFileName(import);
        return file == name || (file.StartsWith(name.StartsWith("lib", StringComparison.Ordinal) ? name : "lib" + name, StringComparison.Ordinal) &&
            file.Contains(".so", StringComparison.Ordinal));
    }

    public void Dispose()
    {
        foreach (Library library in _byPath.Values)
        {
            library.Dispose();
        }
    }

    /// <summary>What part the library of a node plays, without a look into its file.</summary>
    public FrameOutline OutlineOf(in ContextEntry node)
    {
        Library library = LibraryOf(node.Object, ledger.Module(node.Object));
        return new FrameOutline(IsManaged: false, library.Role, library.IsDynamicLinker, library.IsFrameworkLibrary);
    }

    private Library LibraryOf(uint id, in ModuleEntry module)
    {
        if (!_libraries.TryGetValue(id, out Library? library))
        {
            string path = ledger.Text(module.Path);
            if (!_byPath.TryGetValue(path, out library))
            {
                _byPath[path] = library = new Library(path, settings);
            }

            _libraries[id] = library;
        }

        return library;
    }

    private sealed class Library(string path, SymbolSettings settings) : IDisposable
    {
        private NativeSymbols? _symbols;

        public ModuleRole Role { get; } = ModuleRoles.OfNative(path);

        public bool IsDynamicLinker { get; } = ModuleRoles.IsDynamicLinker(path);

        public bool IsFrameworkLibrary { get; } = ModuleRoles.IsFrameworkLibrary(path);

        public bool IsOpen => _symbols is not null;

        // Lines inside libc or the runtime help nobody, and their debug files are large.
        public NativeSymbols Symbols => _symbols ??= NativeSymbols.Open(path, settings, namesOnly: Role != ModuleRole.Other);

        public void Dispose() => _symbols?.Dispose();
    }
}
