using NativeLeaks.Ledger;

namespace NativeLeaks.Symbols;

/// <summary>A frame with what the analysis needs to know beyond what is shown.</summary>
internal readonly record struct ResolvedFrame(LeakFrame Frame, ModuleRole Role, bool IsDynamicLinker);

/// <summary>Turns context ids into named stacks. Caches what it resolved; not thread-safe.</summary>
internal sealed class ContextResolver(LedgerReader ledger)
{
    private readonly ManagedMethods _methods = new(ledger);
    private readonly Dictionary<uint, ResolvedFrame> _frames = [];
    private readonly Dictionary<uint, (string Path, ModuleRole Role, ElfSymbols Symbols)> _modules = [];

    /// <summary>The stack of a context, innermost frame first.</summary>
    public IReadOnlyList<ResolvedFrame> Resolve(uint context)
    {
        ReadOnlySpan<ContextEntry> contexts = ledger.Contexts;
        List<ResolvedFrame> stack = [];
        for (uint id = context; id > LiveWord.RootContext && id < contexts.Length; id = contexts[(int)id].Parent)
        {
            if (!_frames.TryGetValue(id, out ResolvedFrame frame))
            {
                _frames[id] = frame = ResolveNode(contexts[(int)id]);
            }

            stack.Add(frame);
        }

        return stack;
    }

    private ResolvedFrame ResolveNode(in ContextEntry node)
    {
        bool approximate = node.Flags.HasFlag(NodeFlags.Approximate);
        bool cut = (node.Flags & (NodeFlags.Truncated | NodeFlags.Broken)) != 0;
        return node.Kind switch
        {
            NodeKind.Managed => ManagedFrame(node, approximate, cut),
            NodeKind.Native when node.Object != 0 => NativeFrame(node, approximate, cut),
            _ => new ResolvedFrame(
                new LeakFrame(LeakFrameKind.Native, $"0x{node.Pc:x}", null, null, approximate, cut),
                ModuleRole.Other,
                false),
        };
    }

    private ResolvedFrame ManagedFrame(in ContextEntry node, bool approximate, bool cut)
    {
        ManagedMethod method = _methods.Find(node.Object);
        LeakFrameKind kind = method.IsStub ? LeakFrameKind.Runtime : LeakFrameKind.Managed;
        return new ResolvedFrame(
            new LeakFrame(kind, method.Name, method.Module, null, approximate, cut),
            method.IsStub ? ModuleRole.Framework : RoleOf(method),
            false);
    }

    // Dynamic methods are somebody's code, though no assembly's: they are not the framework's.
    private static ModuleRole RoleOf(ManagedMethod method) =>
        method.Assembly is null ? ModuleRole.Other : ModuleRoles.OfAssembly(method.Assembly);

    private ResolvedFrame NativeFrame(in ContextEntry node, bool approximate, bool cut)
    {
        ModuleEntry entry = ledger.Modules[(int)node.Object];
        if (!_modules.TryGetValue(node.Object, out (string Path, ModuleRole Role, ElfSymbols Symbols) module))
        {
            string path = ledger.Text(entry.Path);
            _modules[node.Object] = module = (path, ModuleRoles.OfNative(path), ElfSymbols.Read(path));
        }

        // A return address can lie one past the end of a function that never returns.
        ulong pc = node.Flags.HasFlag(NodeFlags.ExactPc) ? node.Pc : node.Pc - 1;
        ulong inFile = pc - entry.LoadBias;
        (string Name, long Offset)? symbol = module.Symbols.Find(inFile);
        long offset = symbol?.Offset ?? (long)inFile;
        LeakFrameKind kind = module.Role == ModuleRole.DotnetRuntime ? LeakFrameKind.Runtime : LeakFrameKind.Native;
        return new ResolvedFrame(
            new LeakFrame(kind, symbol?.Name, Path.GetFileName(module.Path), offset + (long)(node.Pc - pc), approximate, cut),
            module.Role,
            ModuleRoles.IsDynamicLinker(module.Path));
    }
}
