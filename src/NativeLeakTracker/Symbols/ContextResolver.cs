using NativeLeaks.Ledger;
using NativeLeaks.Symbols.Managed;

namespace NativeLeaks.Symbols;

/// <summary>
/// Turns context ids into named stacks: the frames on the stack, what was inlined into them, and what can be put back between
/// them. Caches what it resolved; one caller at a time.
/// </summary>
internal sealed class ContextResolver : IDisposable
{
    // Contexts never change, and neither does what a library is to .NET.
    private static readonly System.Collections.Concurrent.ConcurrentDictionary<uint, bool> s_runtimeBlocks = new();

    private readonly LedgerReader _ledger;
    private readonly bool _isThisProcess;
    private readonly SymbolSettings _settings;
    private readonly AssemblyFiles _files;
    private readonly ManagedFrames _managed;
    private readonly NativeFrames _native;
    private readonly ElidedFrames _elided;
    private readonly Dictionary<Place, PhysicalFrame> _frames = [];
    private readonly Dictionary<(Place Outer, Place Inner, bool ByStub), Elided> _between = [];

    /// <param name="ledger">The tables.</param>
    /// <param name="settings">Where symbols may be looked for.</param>
    /// <param name="isThisProcess">Whether the tables are those of this process, whose runtime can be asked.</param>
    /// <param name="live">Who reads the recorded process while it lives; null when nobody does.</param>
    public ContextResolver(LedgerReader ledger, SymbolSettings settings, bool isThisProcess, IManagedCode? live = null)
    {
        _ledger = ledger;
        _isThisProcess = isThisProcess;
        _settings = settings;
        _files = new AssemblyFiles(ledger);
        _managed = new ManagedFrames(ledger, _files, settings, isThisProcess, live);
        _native = new NativeFrames(ledger, settings);
        _elided = new ElidedFrames(_files, _native, settings, isThisProcess);
    }

    /// <summary>What keeps names or lines from the libraries that were met so far. One line each.</summary>
    public IReadOnlyList<string> Notes => _native.Notes;

    public void Dispose()
    {
        _native.Dispose();
        _files.Dispose();
    }

    /// <summary>Whether the runtime, or the dynamic linker, made the blocks of a context for itself. Of this process it is remembered.</summary>
    public bool IsRuntimeBlock(uint context)
    {
        if (!_isThisProcess)
        {
            return Analysis.Blame.IsRuntimeBlock(Outline(context));
        }

        if (!s_runtimeBlocks.TryGetValue(context, out bool isRuntimes))
        {
            s_runtimeBlocks[context] = isRuntimes = Analysis.Blame.IsRuntimeBlock(Outline(context));
        }

        return isRuntimes;
    }

    /// <summary>Whether a native library that the framework uses made the blocks of a context, of its own accord.</summary>
    public bool IsFrameworkLibrarysBlock(uint context) => Analysis.Blame.IsFrameworkLibrarysBlock(Outline(context));

    /// <summary>The frames of a context before they are named, innermost first. Costs next to nothing.</summary>
    public IReadOnlyList<FrameOutline> Outline(uint context)
    {
        List<FrameOutline> stack = [];
        foreach (uint id in _ledger.Chain(context).Contexts)
        {
            ContextEntry node = _ledger.Context(id);
            stack.Add(
                node.Kind == NodeKind.Native && node.Object != 0
                    ? _native.OutlineOf(node)
                    : new FrameOutline(node.Kind == NodeKind.Managed, ModuleRole.Other, IsDynamicLinker: false));
        }

        return stack;
    }

    /// <summary>The stack of a context, innermost frame first.</summary>
    public IReadOnlyList<ResolvedFrame> Resolve(uint context)
    {
        ReadOnlySpan<ContextEntry> contexts = _ledger.Contexts;
        List<ResolvedFrame> stack = [];
        Place inner = default;
        bool byStub = false;
        ContextChain chain = _ledger.Chain(context);
        foreach (uint id in chain.Contexts)
        {
            Place place = new(contexts[(int)id]);
            if (!_frames.TryGetValue(place, out PhysicalFrame? frame))
            {
                _frames[place] = frame = Mark(Name(contexts[(int)id]), place.Flags);
            }

            if (frame.IsStub)
            {
                byStub |= frame.IsImportStub;
                stack.AddRange(frame.Frames);
            }
            else
            {
                if (!_between.TryGetValue((place, inner, byStub), out Elided? between))
                {
                    between = _elided.Between(frame, inner == default ? null : _frames[inner], byStub);
                    _between[(place, inner, byStub)] = between;
                }

                stack.AddRange(between.Frames);
                stack.AddRange(between switch
                {
                    { EntryPoint: { } name } => [frame.Frames[0] with { EntryPoint = name }, .. frame.Frames.Skip(1)],
                    { IsDoubtful: true } => Mark(frame, NodeFlags.Approximate).Frames,
                    _ => frame.Frames,
                });
                inner = place;
                byStub = false;
            }
        }

        return stack;
    }

    private PhysicalFrame Name(in ContextEntry node)
    {
        // A return address can lie one past the end of a function that never returns.
        ulong instruction = node.Flags.HasFlag(NodeFlags.ExactPc) ? node.Pc : node.Pc - 1;
        return node.Kind switch
        {
            NodeKind.Managed => Managed(node, instruction),
            NodeKind.Native when node.Object != 0 => _native.Find(node, instruction),
            _ => new PhysicalFrame([new ResolvedFrame(new LeakFrame(LeakFrameKind.Native, $"0x{node.Pc:x}", null), ModuleRole.Other)], IsCall: false),
        };
    }

    private PhysicalFrame Managed(in ContextEntry node, ulong instruction)
    {
        ManagedFrame managed = _managed.Find(node.Object, instruction);
        var frame = new LeakFrame(managed.IsStub ? LeakFrameKind.Runtime : LeakFrameKind.Managed, managed.Name.Text, managed.Module)
        {
            Symbol = managed.Name.Symbol,
            File = managed.Line is { } line ? _settings.Map(line.File) : null,
            Line = managed.Line?.Line,
            Address = node.Pc,
            Link = managed.Line?.Link,
        };
        return new PhysicalFrame(
            [new ResolvedFrame(frame, managed.Role) { WorksForDisposable = managed.WorksForDisposable }], !node.Flags.HasFlag(NodeFlags.ExactPc), managed);
    }

    /// <summary>What the walk says of a frame holds for the function that is on the stack, the outermost of those that share it.</summary>
    private static PhysicalFrame Mark(PhysicalFrame frame, NodeFlags flags)
    {
        const NodeFlags Cut = NodeFlags.Truncated | NodeFlags.Broken;
        if ((flags & (NodeFlags.Approximate | Cut)) == 0)
        {
            return frame;
        }

        ResolvedFrame outermost = frame.Outermost;
        LeakFrame marked = outermost.Frame with { Approximate = flags.HasFlag(NodeFlags.Approximate), Cut = (flags & Cut) != 0 };
        return frame with { Frames = [.. frame.Frames.SkipLast(1), outermost with { Frame = marked }] };
    }
    /// <summary>A node without its callers: the same place in many stacks is named once.</summary>
    private readonly record struct Place(ulong Pc, uint Object, NodeFlags Flags)
    {
        public Place(in ContextEntry node)
            : this(node.Pc, node.Object, node.Flags)
        {
        }
    }
}
