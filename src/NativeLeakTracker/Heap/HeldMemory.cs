using NativeLeaks.Heap.Managed;
using NativeLeaks.Ledger;

namespace NativeLeaks.Heap;

/// <summary>
/// Goes through everything that can hold native memory, strongest first, so that each block is held by the strongest of its
/// holders. For one copy; used once.
/// </summary>
internal sealed class HeldMemory
{
    private readonly FrozenCopy _copy;
    private readonly JudgedScope _scope;
    private readonly ManagedHeap _heap;
    private readonly NativeNodes _nodes;
    private readonly FrozenWords _words;
    private readonly HolderSearch _search;
    private readonly ThreadArea[] _threads;
    private readonly ElfDataRange[] _globals;
    private readonly AddressRanges _nothing;
    private readonly HashSet<ulong> _onStacks = [];

    public HeldMemory(FrozenCopy copy, LedgerReader ledger, JudgedScope scope)
    {
        _copy = copy;
        _scope = scope;
        _heap = ManagedHeap.Open(copy);
        _words = new FrozenWords(copy);
        GlibcHeap? glibc = GlibcHeap.TryRead(copy, out _);
        _globals = [.. ElfData.Of(copy).Where(data => IsProgramsOwn(data, ledger))];
        _nothing = new AddressRanges([.. OwnMemory.Of(ledger).Ranges, .. glibc?.AllocatorState.Select(static n => new AddressRange(n.Start, n.End)) ?? []]);

        // Where everything was recorded, a block in use that was not is the dynamic linker's, from before there was anything to hold.
        bool isAllRecorded = ledger.Header.Mode == CaptureMode.Preload && ledger.Header.Losses.DroppedBlocks == 0;
        NativeNodes blocks = NativeNodes.OfBlocks(ledger, isAllRecorded ? [] : glibc?.ChunksInUse.Select(static n => new AddressRange(n.Start, n.End)) ?? []);
        _threads = ThreadAreas.Of(copy, blocks.EndAt);
        _nodes = blocks.With(UnownedMappings.Of(copy, new AddressRanges(
        [
            .. _nothing.Ranges,
            .. glibc?.Mappings ?? [],
            .. _heap.Ranges,
            .. _globals.Select(static g => new AddressRange(g.Start, g.End)),
            .. _threads.Select(static t => t.Stack),
            .. _threads.SelectMany(static t => t.Storage),
        ])));
        _search = new HolderSearch(_nodes, _words, _nothing);
    }

    /// <exception cref="TornCopyException">The copy was made in the middle of a change.</exception>
    public Holders Search()
    {
        HoldStatics();
        HoldGlobals();
        HoldOlderMemory();
        HoldOuterFrames();
        HoldThreadStorage();
        HoldManaged(_heap.Roots.Where(static r => r.Kind is not (RootKind.Static or RootKind.ThreadStatic or RootKind.FinalizerQueue)), HolderKind.Handle);
        HoldManaged(_heap.Roots.Where(static r => r.Kind == RootKind.FinalizerQueue), HolderKind.FinalizerQueue);
        HoldStacks();
        HoldByOlderBlocks();
        return new Holders(_copy, _heap, _nodes, _search, _words, _onStacks);
    }

    /// <summary>Neither the tracker's, nor that of an allocator which took malloc's place, nor of the runtime's reader.</summary>
    private static bool IsProgramsOwn(ElfDataRange data, LedgerReader ledger)
    {
        string name = Path.GetFileName(data.Path);
        return !name.StartsWith("libnativeleakshim", StringComparison.Ordinal) &&
            !name.StartsWith("libmscordaccore", StringComparison.Ordinal) &&
            (name.StartsWith("libc.so", StringComparison.Ordinal) || data.Path != ledger.Text(ledger.Header.Allocator));
    }

    private void HoldStatics()
    {
        HoldManaged(_heap.Roots.Where(static r => r.Kind == RootKind.Static), HolderKind.Static);

        // Static fields of primitive types lie in the memory of the type loader, which W^X maps twice.
        foreach (MemoryMapping mapping in _copy.Mappings)
        {
            if (mapping.IsShared && mapping.Protection.HasFlag(MemoryProtection.Write) &&
                mapping.Path.StartsWith("/memfd:doublemapper", StringComparison.Ordinal))
            {
                _search.AddRange(mapping.Start, mapping.End, HolderKind.Static);
            }
        }

        _search.Flood();
    }

    private void HoldGlobals()
    {
        foreach (ElfDataRange data in _globals)
        {
            _search.AddRange(data.Start, data.End, HolderKind.Global);
        }

        _search.Flood();
    }

    private void HoldOlderMemory()
    {
        for (int node = 0; node < _nodes.Count; node++)
        {
            if (_nodes.KindOf(node) == NativeNodeKind.OlderBlock && !IsThreadStorage(_nodes[node].Start))
            {
                _search.AddNode(node, HolderKind.OlderMemory);
            }
        }

        _search.Flood();
    }

    private bool IsThreadStorage(ulong address) => Array.Exists(_threads, t => t.Storage.Any(s => s.Contains(address)));

    private void HoldOuterFrames()
    {
        if (_scope.Opened is { } opened && _scope.Asked.UnchangedSince(opened) is { } start && Caller is { } caller)
        {
            var outer = new AddressRange(Math.Max(start, caller.Stack.Start), caller.Stack.End);
            HoldManaged(ObjectsIn(outer, RootKind.Stack, caller.Thread.Id), HolderKind.OuterFrame);
            _search.AddRange(outer.Start, outer.End, HolderKind.OuterFrame, caller.Thread.Id);
            _search.Flood();
        }
    }

    private ThreadArea? Caller => Array.Find(_threads, static t => t.Thread.IsCaller);

    private void HoldThreadStorage()
    {
        HoldManaged(_heap.Roots.Where(static r => r.Kind == RootKind.ThreadStatic), HolderKind.ThreadStorage);
        foreach (ThreadArea thread in _threads)
        {
            foreach (AddressRange storage in thread.Storage)
            {
                _search.AddRange(storage.Start, storage.End, HolderKind.ThreadStorage, thread.Thread.Id);
            }
        }

        _search.Flood();
        HoldManaged(_threads.SelectMany(t => t.Storage.SelectMany(s => ObjectsIn(s, RootKind.ThreadStatic, t.Thread.Id))), HolderKind.ThreadStorage);
    }

    private void HoldStacks()
    {
        foreach (ThreadArea thread in _threads)
        {
            // The tracker's own frames know the blocks that they judge.
            AddressRange stack = thread.Thread.IsCaller && thread.Stack.Contains(_scope.AskedFrom)
                ? thread.Stack with { Start = _scope.AskedFrom }
                : thread.Stack;
            _search.AddRange(stack.Start, stack.End, HolderKind.Stack, thread.Thread.Id);
            List<ManagedRoot> objects = ObjectsIn(stack, RootKind.Stack, thread.Thread.Id);
            _onStacks.UnionWith(objects.Select(static o => o.Object));
            HoldManaged(objects, HolderKind.Stack);
            if (!thread.Thread.IsCaller)
            {
                HoldRegisters(thread.Thread);
            }
        }

        _search.Flood();
    }

    private void HoldRegisters(FrozenThread thread)
    {
        for (int register = 0; register < thread.Registers.Count; register++)
        {
            ulong value = thread.Registers[register];
            _search.Add(value, new HolderRoot(HolderKind.Stack, (ulong)register, thread.Id) { IsRegister = true });
            if (_heap.IsInHeap(value) && _heap.ObjectAt(value) is not 0 and var found)
            {
                _onStacks.Add(found);
                HoldManaged([new ManagedRoot(RootKind.Stack, found, 0, thread.Id)], HolderKind.Stack);
            }
        }
    }

    /// <summary>
    /// Blocks from before the scope that only a stack, a handle or thread storage keeps, such as a connection's: what they hold is kept by
    /// something older than the scope. But for those which are reached through blocks of the scope.
    /// </summary>
    private void HoldByOlderBlocks()
    {
        List<int> older = [];
        for (int node = 0; node < _nodes.Count; node++)
        {
            if (IsOlderBlock(node) && _search.KindOf(node) is > HolderKind.None and < HolderKind.OlderBlock && IsReachedByOlderOnly(node))
            {
                older.Add(node);
            }
        }

        var settled = new HashSet<int>(older);
        foreach (int node in older)
        {
            _search.Follow(node, HolderKind.OlderBlock, settled);
        }

        _search.Flood();
    }

    private bool IsOlderBlock(int node) => _nodes.KindOf(node) == NativeNodeKind.Block && !_scope.IsInScope(_nodes.BlockOf(node).Epoch);

    private bool IsReachedByOlderOnly(int node)
    {
        for (int steps = 0; steps < _nodes.Count; steps++)
        {
            if (_nodes.KindOf(node) == NativeNodeKind.Block && !IsOlderBlock(node))
            {
                return false;
            }

            if (_search.HolderOf(node) is not { } holder)
            {
                return true;
            }

            node = holder.Node;
        }

        return false;
    }

    /// <summary>What the objects hold, and all that they lead to.</summary>
    private void HoldManaged(IEnumerable<ManagedRoot> roots, HolderKind kind)
    {
        List<ManagedHolder> found = [];
        _heap.Flood(roots, _nodes.Targets, found);
        foreach (ManagedHolder holder in found)
        {
            _search.Add(holder.Pointer, new HolderRoot(kind, 0, Managed: holder));
        }

        _search.Flood();
    }

    /// <summary>Words that could be references, and so are taken for some.</summary>
    private List<ManagedRoot> ObjectsIn(AddressRange range, RootKind kind, int threadId)
    {
        List<ManagedRoot> roots = [];
        _words.Visit(range.Start, range.End, (address, words) =>
        {
            for (int i = 0; i < words.Length; i++)
            {
                if (_heap.IsInHeap(words[i]) && _heap.ObjectAt(words[i]) is not 0 and var found)
                {
                    roots.Add(new ManagedRoot(kind, found, address + ((ulong)i * sizeof(ulong)), threadId));
                }
            }
        });
        return roots;
    }
}
