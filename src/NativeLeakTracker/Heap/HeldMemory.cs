using NativeLeaks.Heap.Managed;
using NativeLeaks.Ledger;
using NativeLeaks.Symbols;

namespace NativeLeaks.Heap;

/// <summary>
/// Goes through everything that can hold native memory, strongest first, so that each block is held by the strongest of its
/// holders. For one copy; used once.
/// </summary>
internal sealed class HeldMemory
{
    private const ulong PageBytes = 4096;

    private readonly FrozenCopy _copy;
    private readonly JudgedScope _scope;
    private readonly ManagedHeap _heap;
    private readonly NativeNodes _nodes;
    private readonly FrozenWords _words;
    private readonly HolderSearch _search;
    private readonly ThreadArea[] _threads;
    private readonly ElfDataRange[] _globals;
    private readonly ElfDataRange[] _data;
    private readonly AddressRanges _nothing;
    private readonly Dictionary<uint, bool> _isFrameworkLibrarys = [];
    private readonly HashSet<ulong> _onStacks = [];
    private readonly List<MemoryMapping> _loaderMemory;
    private readonly List<(ulong Address, int Node)> _perhapsStatic = [];
    private readonly List<ManagedHolder> _found = [];

    /// <param name="copy">The copy.</param>
    /// <param name="heap">Its managed heap, of which nothing is marked.</param>
    /// <param name="words">Its memory.</param>
    /// <param name="ledger">The ledger with the copy's live words.</param>
    /// <param name="scope">What is judged.</param>
    public HeldMemory(FrozenCopy copy, ManagedHeap heap, FrozenWords words, LedgerReader ledger, JudgedScope scope)
    {
        (_copy, _heap, _words, _scope) = (copy, heap, words, scope);
        _loaderMemory = LoaderMemory();
        AddressRanges own = OwnMemory.Of(ledger);
        GlibcHeap? glibc = GlibcHeap.TryRead(copy, out _, new AddressRanges([.. own.Ranges, .. _heap.Ranges]));
        if (glibc is { IsBusy: true, Doubts: [var doubt, ..] })
        {
            throw new TornCopyException(doubt);
        }

        _data = [.. ElfData.Of(copy)];
        _globals = [.. _data.Where(d => IsProgramsOwn(d, ledger))];
        _nothing = new AddressRanges([.. own.Ranges, .. glibc?.AllocatorState.Select(static n => new AddressRange(n.Start, n.End)) ?? []]);

        // Where everything was recorded, a block in use that was not is the dynamic linker's, from before there was anything to hold.
        bool isAllRecorded = ledger.Header.Mode == CaptureMode.Preload && ledger.Header.Losses.DroppedBlocks == 0;
        NativeNodes blocks = NativeNodes.OfBlocks(ledger, isAllRecorded ? [] : glibc?.ChunksInUse.Select(static n => new AddressRange(n.Start, n.End)) ?? []);
        _threads = ThreadAreas.Of(copy, blocks.EndAt);
        _nodes = blocks.With(UnownedMappings.Of(copy, new AddressRanges(
        [
            .. _nothing.Ranges,
            .. glibc?.Mappings ?? [],
            .. _heap.Ranges,
            .. _loaderMemory.Select(static m => new AddressRange(m.Start, m.End)),
            // Up to the end of the page: the dynamic linker allocates there before there is a malloc.
            .. _data.Select(static d => new AddressRange(d.Start, (d.End + PageBytes - 1) & ~(PageBytes - 1))),
            // What lies below the stack pointer is of calls that have returned.
            .. copy.Threads.Where(static t => t.StackPointer != 0).Select(t => MemoryMap.At(copy.Mappings, t.StackPointer))
                .Select(static m => new AddressRange(m.Start, m.End)),
            .. _threads.SelectMany(static t => t.Storage.Select(static s => s.Range)),
        ])));
        _search = new HolderSearch(_nodes, _words, _nothing)
        {
            IsOfScope = IsOfScope,
            IsFrameworkLibrarys = IsFrameworkLibrarys,
        };
    }

    /// <summary>The result takes the copy, its heap and its memory over.</summary>
    /// <exception cref="TornCopyException">The copy was made in the middle of a change.</exception>
    public Holders Search()
    {
        SetThreadStorageAside();
        SetRuntimesBlocksAside();

        // Every library refers to the linker's description of it, and that to all others: before libraries' globals are followed.
        SetLinkersMemoryAside();
        HoldGlobals();
        SetOlderMemoryAside(_data.Where(static d => ModuleRoles.IsRuntimeLibrary(d.Path)));
        HoldStatics();
        _heap.PassTestRunner();
        HoldManaged([], HolderKind.TestRunner);
        HoldThreadStorage();
        HoldManaged(_heap.Roots.Where(static r => r.Kind is not (RootKind.Static or RootKind.ThreadStatic or RootKind.FinalizerQueue)), HolderKind.Handle);
        HoldManaged(_heap.Roots.Where(static r => r.Kind == RootKind.FinalizerQueue), HolderKind.FinalizerQueue);
        HoldStacks();
        HoldPrimitiveStatics();
        return new Holders(_copy, _heap, _nodes, _search, _words, _onStacks, _scope.Asked);
    }

    /// <summary>Neither the tracker's, nor that of an allocator which took malloc's place, nor the runtime's.</summary>
    private static bool IsProgramsOwn(ElfDataRange data, LedgerReader ledger)
    {
        string name = Path.GetFileName(data.Path);
        return !ModuleRoles.IsTrackers(data.Path) &&
            !ModuleRoles.IsRuntimeLibrary(data.Path) &&
            (name.StartsWith("libc.so", StringComparison.Ordinal) || data.Path != ledger.Text(ledger.Header.Allocator));
    }

    private static bool IsFrameworks(string path) =>
        ModuleRoles.IsFrameworkLibrary(path) || ModuleRoles.OfNative(path) != ModuleRole.Other;

    private bool IsOfScope(int node) => _nodes.KindOf(node) == NativeNodeKind.Block && _scope.IsInScope(_nodes.BlockOf(node).Epoch);

    private bool IsFrameworkLibrarys(int node)
    {
        if (_nodes.KindOf(node) != NativeNodeKind.Block)
        {
            return false;
        }

        uint context = _nodes.BlockOf(node).Context;
        if (!_isFrameworkLibrarys.TryGetValue(context, out bool isIt))
        {
            _isFrameworkLibrarys[context] = isIt = _scope.IsFrameworkLibrarys(context);
        }

        return isIt;
    }

    private void HoldStatics()
    {
        HoldManaged(_heap.Roots.Where(static r => r.Kind == RootKind.Static), HolderKind.Static);

        // Static fields of primitive types lie in the memory of the type loader. What else is there, code too, is full of words that are no longer
        // meant: which are static fields is asked only if it matters.
        foreach (MemoryMapping mapping in _loaderMemory)
        {
            _search.AddRange(mapping.Start, mapping.End, HolderKind.Static, isRoot: (address, node) =>
            {
                _perhapsStatic.Add((address, node));
                return false;
            });
        }

        _search.Flood();
    }

    /// <summary>
    /// What static fields of primitive types refer to. To tell which do takes long, and mostly nothing that is judged can be reached from there.
    /// What a static field of the program's leads to is the program's, whatever the runtime knows of it.
    /// </summary>
    private void HoldPrimitiveStatics()
    {
        if (_search.CanReach(_perhapsStatic.Select(static p => p.Node), node => IsOfScope(node) && _search.KindOf(node) < HolderKind.OlderMemory))
        {
            (ulong Address, int Node, TypeMaker Maker)[] statics =
            [
                .. _perhapsStatic.Select(p => (p.Address, p.Node, Maker: _heap.StaticAt(p.Address, out TypeMaker maker) is null ? (TypeMaker?)null : maker))
                    .Where(static p => p.Maker is not null).Select(static p => (p.Address, p.Node, p.Maker!.Value)),
            ];
            Hold(statics.Where(static s => s.Maker == TypeMaker.Framework), isFrameworks: true);
            _search.TakeSweptBack();
            Hold(statics.Where(static s => s.Maker == TypeMaker.Program), isFrameworks: false);
        }

        void Hold(IEnumerable<(ulong Address, int Node, TypeMaker Maker)> statics, bool isFrameworks)
        {
            foreach ((ulong address, int node, _) in statics)
            {
                _search.Add(_nodes[node].Start, new HolderRoot(HolderKind.Static, address) { IsFrameworks = isFrameworks });
            }

            _search.Flood();
        }
    }

    /// <summary>Where the type loader keeps static fields: W^X maps it twice, from a file in memory; without W^X it is told from other memory by
    /// the fields themselves.</summary>
    private List<MemoryMapping> LoaderMemory()
    {
        List<MemoryMapping> twice =
        [
            .. _copy.Mappings.Where(static m => m.IsShared && m.Protection.HasFlag(MemoryProtection.Write) &&
                m.Path.StartsWith("/memfd:doublemapper", StringComparison.Ordinal)),
        ];
        return twice.Count > 0 ? twice : MappingsOf(_heap.StaticStorages());
    }

    /// <summary>The writable mappings that hold any of the addresses, which are in order.</summary>
    private List<MemoryMapping> MappingsOf(IEnumerable<ulong> addresses)
    {
        List<MemoryMapping> mappings = [];
        foreach (ulong address in addresses)
        {
            if (mappings.Count == 0 || address >= mappings[^1].End)
            {
                MemoryMapping mapping = MemoryMap.At(_copy.Mappings, address);
                if (mapping.End > mapping.Start && mapping.Protection.HasFlag(MemoryProtection.Write))
                {
                    mappings.Add(mapping);
                }
            }
        }

        return mappings;
    }

    private void HoldGlobals()
    {
        // Older memory that several hold is the program's before it is the framework's.
        foreach (IGrouping<bool, ElfDataRange> owners in _globals.ToLookup(static d => IsFrameworks(d.Path)).OrderBy(static g => g.Key))
        {
            foreach (ElfDataRange data in owners)
            {
                _search.AddRange(data.Start, data.End, HolderKind.Global, isFrameworks: owners.Key);
            }

            _search.Flood();
        }
    }

    /// <summary>
    /// The runtime's own memory holds nothing: what it keeps for the program is known precisely (objects, handles, statics), and the rest is
    /// full of words that were never written, such as the compiler's pools.
    /// </summary>
    private void SetRuntimesBlocksAside()
    {
        var isRuntimes = new Dictionary<uint, bool>();
        for (int node = 0; node < _nodes.Count; node++)
        {
            if (_nodes.KindOf(node) != NativeNodeKind.Block)
            {
                continue;
            }

            uint context = _nodes.BlockOf(node).Context;
            if (!isRuntimes.TryGetValue(context, out bool isRuntime))
            {
                isRuntimes[context] = isRuntime = _scope.IsRuntimes(context);
            }

            if (isRuntime)
            {
                _search.TrySetAside(node);
            }
        }
    }

    /// <summary>
    /// What the dynamic linker made for itself: descriptions of libraries, and what these and its own data refer to. Not what that refers to in turn: there
    /// the program's memory begins.
    /// </summary>
    private void SetLinkersMemoryAside()
    {
        List<AddressRange> linkers = [.. _data.Where(static d => ModuleRoles.IsDynamicLinker(d.Path)).Select(static d => new AddressRange(d.Start, d.End))];
        foreach (ulong description in LinkMaps.Of(_copy))
        {
            if (_nodes.Targets.Find(description) is >= 0 and var node && _nodes.KindOf(node) != NativeNodeKind.Mapping)
            {
                _search.TrySetAside(node);
                linkers.Add(new AddressRange(_nodes[node].Start, _nodes[node].End));
            }
        }

        _search.SetAside(linkers, node => _nodes.KindOf(node) == NativeNodeKind.Block, goesOn: false);
    }

    /// <summary>
    /// Of blocks from before the recording nobody knows who made them. Those that can be reached from the runtime's globals, and from no other
    /// library's, are taken for the runtime's.
    /// </summary>
    private void SetOlderMemoryAside(IEnumerable<ElfDataRange> from) =>
        _search.SetAside(
            from.Select(static d => new AddressRange(d.Start, d.End)),
            node => _nodes.KindOf(node) == NativeNodeKind.Block,
            goesOn: true);

    /// <summary>Blocks that the dynamic linker made for thread-local variables: they hold as these do, whoever else knows where they are.</summary>
    private void SetThreadStorageAside()
    {
        foreach (ThreadStorage storage in _threads.SelectMany(static t => t.Storage))
        {
            if (_nodes.Targets.Find(storage.Range.Start) is >= 0 and var node)
            {
                _search.TrySetAside(node);
            }
        }
    }

    private void HoldThreadStorage()
    {
        HoldManaged(_heap.Roots.Where(static r => r.Kind == RootKind.ThreadStatic), HolderKind.ThreadStorage);
        ILookup<bool, (ThreadStorage Storage, int Thread)> storages = _threads
            .SelectMany(t => t.Storage.SelectMany(Holding).Select(storage => (Storage: storage, Thread: t.Thread.Id)))
            .ToLookup(static s => IsFrameworks(s.Storage.Path) && !ModuleRoles.IsRuntimeLibrary(s.Storage.Path));

        // What several hold is the program's before it is the framework's.
        foreach (bool isFrameworks in (ReadOnlySpan<bool>)[false, true])
        {
            foreach ((ThreadStorage storage, int thread) in storages[isFrameworks])
            {
                _search.AddRange(storage.Range.Start, storage.Range.End, HolderKind.ThreadStorage, thread, isFrameworks);
                if (ModuleRoles.IsRuntimeLibrary(storage.Path))
                {
                    HoldBetweenWords(storage.Range, thread);
                }
            }

            _search.Flood();
        }

        HoldManaged(
            storages.SelectMany(static s => s).SelectMany(s => ObjectsIn(s.Storage.Range, RootKind.ThreadStatic, s.Thread)), HolderKind.ThreadStorage);
    }

    /// <summary>
    /// Thread-local variables of the runtime and of the tracker hold as little as their globals do. But among the runtime's are static fields of the
    /// program's.
    /// </summary>
    private IEnumerable<ThreadStorage> Holding(ThreadStorage storage) =>
        ModuleRoles.IsTrackers(storage.Path) ? []
        : !ModuleRoles.IsRuntimeLibrary(storage.Path) ? [storage]
        : _heap.ThreadStatics.Where(statics => storage.Range.Contains(statics.Start))
            .Select(statics => storage with { Range = statics with { End = Math.Min(statics.End, storage.Range.End) } });

    /// <summary>The runtime puts thread statics of primitive types side by side in native thread storage, a pointer behind an int for one
    /// (threadstatics.cpp).</summary>
    private void HoldBetweenWords(AddressRange storage, int threadId)
    {
        var bytes = new byte[storage.End - storage.Start];
        int read = _copy.Read(storage.Start, bytes);
        for (int at = sizeof(uint); at + sizeof(ulong) <= read; at += sizeof(ulong))
        {
            _search.Add(BitConverter.ToUInt64(bytes, at), new HolderRoot(HolderKind.ThreadStorage, storage.Start + (ulong)at, threadId));
        }
    }

    private void HoldStacks()
    {
        var programs = new ProgramStacks(_copy, _words, _scope.Asked);
        foreach (ThreadArea thread in _threads.OrderByDescending(static t => t.Thread.IsCaller))
        {
            if (programs.PartOf(thread) is not { } stack)
            {
                continue;
            }

            // The tracker's own frames know the blocks that they judge.
            if (thread.Thread.IsCaller && stack.Contains(_scope.AskedFrom))
            {
                stack = stack with { Start = _scope.AskedFrom };
            }

            _search.AddRange(stack.Start, stack.End, HolderKind.StackWord, thread.Thread.Id);
            List<ManagedRoot> objects = ObjectsIn(stack, RootKind.Stack, thread.Thread.Id);
            _onStacks.UnionWith(objects.Select(static o => o.Object));
            HoldManaged(objects, thread.Thread.IsCaller ? HolderKind.Stack : HolderKind.StackWord);
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
            _search.Add(value, new HolderRoot(HolderKind.StackWord, (ulong)register, thread.Id) { IsRegister = true });
            if (_heap.IsInHeap(value) && _heap.ObjectAt(value) is not 0 and var found)
            {
                _onStacks.Add(found);
                HoldManaged([new ManagedRoot(RootKind.Stack, found, 0, thread.Id)], HolderKind.StackWord);
            }
        }
    }

    /// <summary>What the objects hold, and all that they lead to.</summary>
    private void HoldManaged(IEnumerable<ManagedRoot> roots, HolderKind kind)
    {
        _found.Clear();
        _heap.Flood(roots, _nodes.Targets, _found);
        foreach (bool isFrameworks in (ReadOnlySpan<bool>)[false, true])
        {
            foreach (ManagedHolder holder in _found)
            {
                if (holder.IsFrameworks == isFrameworks)
                {
                    _search.Add(holder.Pointer, new HolderRoot(kind, 0, Managed: holder) { IsFrameworks = isFrameworks });
                }
            }

            _search.Flood();
        }
    }

    /// <summary>Words that could be references, and so are taken for some.</summary>
    private List<ManagedRoot> ObjectsIn(AddressRange range, RootKind kind, int threadId)
    {
        var objects = new ObjectVisitor(_heap, kind, threadId, []);
        _words.Visit(range.Start, range.End, ref objects);
        return objects.Roots;
    }

    private readonly struct ObjectVisitor(ManagedHeap heap, RootKind kind, int threadId, List<ManagedRoot> roots) : IWordVisitor
    {
        public List<ManagedRoot> Roots => roots;

        public void Visit(ulong address, ReadOnlySpan<ulong> words)
        {
            for (int i = 0; i < words.Length; i++)
            {
                if (heap.IsInHeap(words[i]) && heap.ObjectAt(words[i]) is not 0 and var found)
                {
                    roots.Add(new ManagedRoot(kind, found, address + ((ulong)i * sizeof(ulong)), threadId));
                }
            }
        }
    }
}
