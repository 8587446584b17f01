using NativeLeaks.Ledger;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Symbols;

/// <summary>Names the native frames of a ledger, from the files of its libraries. Caches; one caller at a time.</summary>
internal sealed class NativeFrames(LedgerReader ledger, SymbolSettings settings) : IDisposable
{
    private readonly Dictionary<uint, Library> _libraries = [];
    private readonly Dictionary<string, NativeSymbols> _symbols = [];

    public PhysicalFrame Find(in ContextEntry node, ulong instruction)
    {
        ModuleEntry module = node.Object < ledger.Modules.Length ? ledger.Modules[(int)node.Object] : default;
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
            string? name = source.Function;
            var frame = new LeakFrame(kind, name, fileName)
            {
                Offset = isFunction ? (long)(address - function!.Value.Start) + distance : name is null ? (long)address + distance : null,
                File = source.File,
                Line = source.Line > 0 ? source.Line : null,
                Inlined = source.IsInlined,
            };
            frames.Add(new ResolvedFrame(frame, library.Role, library.IsDynamicLinker));
        }

        if (frames.Count == 0)
        {
            var frame = new LeakFrame(kind, null, fileName) { Offset = (long)address + distance };
            frames.Add(new ResolvedFrame(frame, library.Role, library.IsDynamicLinker));
        }

        return new PhysicalFrame(
            frames, !node.Flags.HasFlag(NodeFlags.ExactPc), Native: new NativePlace(library.Symbols, node.Pc - module.LoadBias, function));
    }

    public void Dispose()
    {
        foreach (NativeSymbols symbols in _symbols.Values)
        {
            symbols.Dispose();
        }
    }

    private Library LibraryOf(uint id, in ModuleEntry module)
    {
        if (!_libraries.TryGetValue(id, out Library? library))
        {
            string path = ledger.Text(module.Path);
            if (!_symbols.TryGetValue(path, out NativeSymbols? symbols))
            {
                _symbols[path] = symbols = NativeSymbols.Open(path, settings);
            }

            _libraries[id] = library = new Library(symbols, ModuleRoles.OfNative(path), ModuleRoles.IsDynamicLinker(path));
        }

        return library;
    }

    private sealed record Library(NativeSymbols Symbols, ModuleRole Role, bool IsDynamicLinker);
}
