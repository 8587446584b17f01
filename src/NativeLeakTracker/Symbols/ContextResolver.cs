using System.Reflection;
using NativeLeaks.Ledger;
using NativeLeaks.Symbols.Managed;

namespace NativeLeaks.Symbols;

/// <summary>A frame with what the analysis needs to know beyond what is shown.</summary>
/// <param name="Frame">What is shown.</param>
/// <param name="Role">What part its module plays.</param>
/// <param name="IsDynamicLinker">Whether it is the dynamic linker's.</param>
/// <param name="Method">The managed method, where it is safe to ask this process's runtime about it; else null.</param>
internal readonly record struct ResolvedFrame(LeakFrame Frame, ModuleRole Role, bool IsDynamicLinker, MethodBase? Method = null);

/// <summary>Turns context ids into named stacks. Caches what it resolved; one caller at a time.</summary>
internal sealed class ContextResolver(LedgerReader ledger, SymbolSettings settings) : IDisposable
{
    private readonly ManagedFrames _managed = new(ledger, settings, isThisProcess: true);
    private readonly Dictionary<uint, ResolvedFrame> _frames = [];
    private readonly Dictionary<uint, (string Path, ModuleRole Role, ElfSymbols Symbols)> _modules = [];

    public void Dispose() => _managed.Dispose();

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
        ResolvedFrame frame = node.Kind switch
        {
            NodeKind.Managed => ManagedFrame(node),
            NodeKind.Native when node.Object != 0 => NativeFrame(node),
            _ => new ResolvedFrame(new LeakFrame(LeakFrameKind.Native, $"0x{node.Pc:x}", null), ModuleRole.Other, false),
        };
        return frame with
        {
            Frame = frame.Frame with
            {
                Approximate = node.Flags.HasFlag(NodeFlags.Approximate),
                Cut = (node.Flags & (NodeFlags.Truncated | NodeFlags.Broken)) != 0,
            },
        };
    }

    private ResolvedFrame ManagedFrame(in ContextEntry node)
    {
        ManagedFrame managed = _managed.Find(node.Object, InstructionOf(node));
        var frame = new LeakFrame(managed.IsStub ? LeakFrameKind.Runtime : LeakFrameKind.Managed, managed.Name.Text, managed.Module)
        {
            Symbol = managed.Name.Symbol,
            File = managed.Line is { } line ? settings.Map(line.File) : null,
            Line = managed.Line?.Line,
            Link = managed.Line?.Link,
        };
        return new ResolvedFrame(frame, managed.Role, false, managed.Method);
    }

    private ResolvedFrame NativeFrame(in ContextEntry node)
    {
        ModuleEntry entry = ledger.Modules[(int)node.Object];
        if (!_modules.TryGetValue(node.Object, out (string Path, ModuleRole Role, ElfSymbols Symbols) module))
        {
            string path = ledger.Text(entry.Path);
            _modules[node.Object] = module = (path, ModuleRoles.OfNative(path), ElfSymbols.Read(path));
        }

        ulong pc = InstructionOf(node);
        ulong inFile = pc - entry.LoadBias;
        (string Name, long Offset)? symbol = module.Symbols.Find(inFile);
        long offset = symbol?.Offset ?? (long)inFile;
        LeakFrameKind kind = module.Role == ModuleRole.DotnetRuntime ? LeakFrameKind.Runtime : LeakFrameKind.Native;
        return new ResolvedFrame(
            new LeakFrame(kind, symbol?.Name, Path.GetFileName(module.Path)) { Offset = offset + (long)(node.Pc - pc) },
            module.Role,
            ModuleRoles.IsDynamicLinker(module.Path));
    }

    // A return address can lie one past the end of a function that never returns.
    private static ulong InstructionOf(in ContextEntry node) => node.Flags.HasFlag(NodeFlags.ExactPc) ? node.Pc : node.Pc - 1;
}
