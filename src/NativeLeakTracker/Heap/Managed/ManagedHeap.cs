namespace NativeLeaks.Heap.Managed;

/// <summary>
/// The managed heap of a frozen copy: which objects live, from what, and which of their words point into native memory. Reads the heap's
/// memory in one go and marks it by the collector's own descriptions of types; the runtime is asked for names only. For one caller at a time.
/// </summary>
internal sealed unsafe class ManagedHeap : IDisposable
{
    private const int PageBytes = 4096;
    private const int MinObjectBytes = 24;

    // Types of programs live as long as these do, but for collectible ones.
    private static readonly MethodTables s_types = new();

    private readonly FrozenMemory _memory;
    private readonly RuntimeView _runtime;
    private readonly HeapSegments _segments;
    private readonly ReachedObjects _reached = new();
    private readonly List<ManagedRoot> _entered = [];
    private readonly (ulong Start, ulong End)[] _contexts;
    private readonly HashSet<ulong> _pinned = [];
    private readonly List<(ulong Primary, ulong Secondary)> _dependents = [];
    private readonly Dictionary<(ulong MethodTable, int Offset), FieldKind> _kinds = [];
    private readonly ObjectPaths _paths;
    private readonly ulong _freeType;
    private int _scanned;

    private ManagedHeap(FrozenMemory memory, RuntimeView runtime)
    {
        (_memory, _runtime) = (memory, runtime);
        s_types.Forget();
        if (!RuntimeView.Ask(runtime.IsWalkable))
        {
            throw new TornCopyException("a collection was under way");
        }

        _freeType = RuntimeView.Ask(runtime.FreeType);
        _contexts = RuntimeView.Ask(runtime.AllocationContexts);
        _segments = new HeapSegments(memory, RuntimeView.Ask(runtime.Segments));
        try
        {
            Roots = [.. FindStatics(), .. ReadThreadStatics(), .. ReadHandles(), .. RuntimeView.Ask(runtime.FinalizerQueue).Select(static o => new ManagedRoot(RootKind.FinalizerQueue, o, 0))];
        }
        catch
        {
            _segments.Dispose();
            throw;
        }

        _paths = new ObjectPaths(this, runtime);
    }

    /// <summary>Objects that live by themselves, but for what words of stacks and thread storage refer to.</summary>
    public IReadOnlyList<ManagedRoot> Roots { get; }

    /// <summary>The collector's address space.</summary>
    public IReadOnlyList<AddressRange> Ranges => [_segments.Whole];

    /// <summary>Objects that were reached.</summary>
    public int LiveObjects => _reached.Count;

    /// <summary>References that lead to no part of the heap: there should be none.</summary>
    public int StrayReferences { get; private set; }

    /// <exception cref="HeapUnavailableException">There is no runtime that can be read.</exception>
    /// <exception cref="TornCopyException">The copy was made in the middle of a change.</exception>
    public static ManagedHeap Open(FrozenMemory memory) => new(memory, RuntimeView.Of(memory));

    public void Dispose()
    {
        _reached.Dispose();
        _segments.Dispose();
    }

    public bool IsInHeap(ulong address) => _segments.At(address) is not null;

    public bool IsMarked(ulong instance) => _segments.At(instance) is { } segment && segment.IsMarked(instance);

    /// <summary>Whether the collector may not move it: by a handle, or by where it is.</summary>
    public bool IsPinned(ulong instance) =>
        _segments.At(instance) is { Kind: SegmentKind.Pinned or SegmentKind.Frozen } || _pinned.Contains(instance);

    /// <summary>
    /// Marks what the roots lead to and was not marked before, and lists the words of these objects that point to native memory and may: those of
    /// pointers, and of numbers as wide as one.
    /// </summary>
    /// <exception cref="TornCopyException">The heap makes no sense.</exception>
    public void Flood(IEnumerable<ManagedRoot> roots, PointerTargets targets, List<ManagedHolder> found)
    {
        foreach (ManagedRoot root in roots)
        {
            if (root.Object != 0 && _segments.At(root.Object) is { } segment && segment.TryMark(root.Object))
            {
                _entered.Add(root);
                _reached.Add(root.Object, ~(_entered.Count - 1));
            }
        }

        do
        {
            while (_scanned < _reached.Count)
            {
                Scan(_scanned++, targets, found);
            }
        }
        while (FollowDependents());
    }

    /// <summary>The object that an address lies in, dead or alive; 0: in none.</summary>
    /// <exception cref="TornCopyException">The heap makes no sense there.</exception>
    public ulong ObjectAt(ulong address)
    {
        if (_segments.At(address) is not { } segment)
        {
            return 0;
        }

        segment.FirstObjects ??= Walk(segment);
        int page = (int)((address - segment.Start) / PageBytes);
        while (page >= 0 && (segment.FirstObjects[page] < 0 || segment.Start + (ulong)segment.FirstObjects[page] > address))
        {
            page--;
        }

        if (page < 0)
        {
            return 0;
        }

        ulong at = segment.Start + (ulong)segment.FirstObjects[page];
        while (at < segment.End && SkipContext(at) is var next)
        {
            if (next != at)
            {
                at = next;
                if (at > address)
                {
                    return 0;
                }

                continue;
            }

            ulong bytes = BytesOf(segment, at);
            if (address < at + bytes)
            {
                return IsFree(segment, at) ? 0 : at;
            }

            at += bytes;
        }

        return 0;
    }

    /// <summary>The array of numbers or the string whose first element an address is; null when there is none.</summary>
    public (ulong Object, string TypeName)? ContentsAt(ulong address)
    {
        ulong instance = ObjectAt(address);
        if (instance == 0 || _segments.At(instance) is not { } segment)
        {
            return null;
        }

        ulong methodTable = MethodTableAt(segment, instance);
        ObjectLayout layout = s_types.At(_memory, methodTable);
        int first = methodTable == MethodTables.OfString ? sizeof(ulong) + sizeof(int) : layout.ElementsStart;
        return layout.ElementBytes > 0 && layout is { Series.Count: 0, Items.Count: 0 } && address == instance + (ulong)first
            ? (instance, TypeNameOf(instance))
            : null;
    }

    /// <summary>The type's name as the source has it, without namespace.</summary>
    public string TypeNameOf(ulong instance) => ObjectPaths.ShortName(RuntimeView.Ask(() => _runtime.TypeNameOf(instance)) ?? "?");

    /// <summary>The way from a root to the word that points into native memory, as the source reads.</summary>
    public string PathTo(in ManagedHolder holder) => _paths.Of(holder);

    /// <inheritdoc cref="RuntimeView.StaticAt"/>
    public string? StaticAt(ulong address) => RuntimeView.Ask(() => _runtime.StaticAt(address)) is { } name ? ObjectPaths.ShortName(name) : null;

    /// <summary>The objects on the way to one, outermost first, and the root where it begins; null: a dependent handle is on it.</summary>
    internal (ManagedRoot? Root, IReadOnlyList<ulong> Objects) WayTo(int entry)
    {
        const int MaxObjects = 1000;
        List<ulong> objects = [];
        while (objects.Count < MaxObjects)
        {
            objects.Add(_reached.ObjectAt(entry));
            int parent = _reached.ParentOf(entry);
            if (parent == ReachedObjects.Dependent)
            {
                ulong secondary = _reached.ObjectAt(entry);
                ulong primary = _dependents.Find(d => d.Secondary == secondary && IsMarked(d.Primary)).Primary;
                entry = _reached.EntryOf(primary);
                if (entry < 0)
                {
                    break;
                }

                continue;
            }

            if (parent < 0)
            {
                objects.Reverse();
                return (_entered[~parent], objects);
            }

            entry = parent;
        }

        objects.Reverse();
        return (null, objects);
    }

    /// <summary>Where one object refers to another: the offset of the first such word; -1 when there is none.</summary>
    internal int OffsetOf(ulong instance, ulong target)
    {
        if (_segments.At(instance) is not { } segment)
        {
            return -1;
        }

        int bytes = (int)Math.Min(BytesOf(segment, instance), int.MaxValue & ~7);
        int index = new ReadOnlySpan<ulong>(segment.Memory(instance), bytes / sizeof(ulong)).IndexOf(target);
        return index * sizeof(ulong);
    }

    internal ObjectLayout LayoutOf(ulong instance) => s_types.At(_memory, MethodTableAt(_segments.At(instance)!, instance));

    /// <summary>A word of an object; 0 where it has none.</summary>
    internal ulong WordAt(ulong instance, int offset) =>
        _segments.At(instance) is { } segment && offset >= 0 && instance + (ulong)offset + sizeof(ulong) <= segment.End
            ? *(ulong*)segment.Memory(instance + (ulong)offset)
            : 0;

    /// <summary>A string's text, the first characters of it; null: it is none.</summary>
    internal string? TextOf(ulong instance, int maxLength)
    {
        if (_segments.At(instance) is not { } segment || instance + 12 > segment.End || MethodTableAt(segment, instance) != MethodTables.OfString)
        {
            return null;
        }

        int length = *(int*)segment.Memory(instance + sizeof(ulong));
        int room = (int)Math.Min((segment.End - instance - 12) / sizeof(char), int.MaxValue);
        return new string(new ReadOnlySpan<char>(segment.Memory(instance + 12), Math.Clamp(length, 0, Math.Min(room, maxLength))));
    }

    /// <summary>All arrays of references where objects never move: nobody but the type loader can make one there, for static fields.</summary>
    private List<ManagedRoot> FindStatics()
    {
        List<ManagedRoot> statics = [];
        for (int i = 0; i < _segments.Count; i++)
        {
            HeapSegments.Segment segment = _segments[i];
            if (segment.Kind != SegmentKind.Pinned)
            {
                continue;
            }

            Visit(segment, at =>
            {
                if (MethodTableAt(segment, at) == MethodTables.OfObjectArray)
                {
                    statics.Add(new ManagedRoot(RootKind.Static, at, 0));
                }
            });
        }

        return statics;
    }

    /// <summary>The array in which each thread keeps its statics. Those of types that can be collected are kept by handles.</summary>
    private List<ManagedRoot> ReadThreadStatics()
    {
        List<ManagedRoot> roots = [];
        if (RuntimeLayout.OffsetOf("Thread", "ThreadLocalDataPtr") is not { } storage ||
            RuntimeLayout.OffsetOf("ThreadLocalData", "NonCollectibleTlsArrayData") is not { } array)
        {
            return roots;
        }

        foreach ((ulong thread, int id) in RuntimeView.Ask(_runtime.Threads))
        {
            if (_memory.TryReadWord(thread + (ulong)storage, out ulong data) && data != 0 &&
                _memory.TryReadWord(data + (ulong)array, out ulong statics) && statics != 0)
            {
                roots.Add(new ManagedRoot(RootKind.ThreadStatic, statics, data + (ulong)array, id));
            }
        }

        return roots;
    }

    private List<ManagedRoot> ReadHandles()
    {
        List<ManagedRoot> roots = [];
        foreach ((ulong slot, ulong target, int kind, ulong dependent) in RuntimeView.Ask(_runtime.Handles))
        {
            switch ((HandleKind)kind)
            {
                case HandleKind.Strong:
                    roots.Add(new ManagedRoot(RootKind.StrongHandle, target, slot));
                    break;
                case HandleKind.Pinned:
                    roots.Add(new ManagedRoot(RootKind.PinnedHandle, target, slot));
                    _pinned.Add(target);
                    break;
                case HandleKind.Dependent when target != 0 && dependent != 0:
                    _dependents.Add((target, dependent));
                    break;
            }
        }

        return roots;
    }

    private bool FollowDependents()
    {
        bool isNew = false;
        foreach ((ulong primary, ulong secondary) in _dependents)
        {
            if (IsMarked(primary) && _segments.At(secondary) is { } segment && segment.TryMark(secondary))
            {
                _reached.Add(secondary, ReachedObjects.Dependent);
                isNew = true;
            }
        }

        return isNew;
    }

    private void Scan(int entry, PointerTargets targets, List<ManagedHolder> found)
    {
        ulong instance = _reached.ObjectAt(entry);
        HeapSegments.Segment segment = _segments.At(instance)!;
        ulong methodTable = MethodTableAt(segment, instance);
        ObjectLayout layout = s_types.At(_memory, methodTable);
        if (layout.IsOwn)
        {
            return;
        }

        ulong bytes = BytesOf(segment, instance, layout);
        byte* memory = segment.Memory(instance);
        if (layout.IsCollectible)
        {
            Reach(layout.LoaderAllocator ??= RuntimeView.Ask(() => _runtime.LoaderAllocatorOf(instance)), entry);
        }

        foreach ((long seriesBytes, long start) in layout.Series)
        {
            ReachAll(memory, start, start + seriesBytes + (long)bytes, (long)bytes, entry);
        }

        if (layout.Items.Count > 0)
        {
            ReachItems(memory, layout, (long)bytes, entry);
        }

        bool isThreadStorage = IsThreadStorage(entry);
        if (layout.MayHoldPointers || isThreadStorage)
        {
            ulong* words = (ulong*)memory;
            int count = (int)Math.Min(bytes / sizeof(ulong), int.MaxValue / sizeof(ulong));
            for (int i = 1; i < count; i++)
            {
                if (targets.MayBe(words[i]) && targets.Find(words[i]) >= 0 &&
                    (isThreadStorage || KindAt(instance, methodTable, layout, i * sizeof(ulong)) == FieldKind.Pointer))
                {
                    found.Add(new ManagedHolder(entry, i * sizeof(ulong), words[i]));
                }
            }
        }
    }

    /// <summary>Thread statics of primitive types lie in arrays of bytes, one for each type that has some, which a thread's own array keeps.</summary>
    private bool IsThreadStorage(int entry) =>
        _reached.ParentOf(entry) is >= 0 and var parent && _reached.ParentOf(parent) is < 0 and var root && root != ReachedObjects.Dependent &&
        _entered[~root].Kind == RootKind.ThreadStatic;

    private void ReachItems(byte* memory, ObjectLayout layout, long bytes, int entry)
    {
        long at = layout.ItemsStart, end = bytes - sizeof(ulong);
        while (at < end)
        {
            long before = at;
            foreach ((int references, int skip) in layout.Items)
            {
                ReachAll(memory, at, at + ((long)references * sizeof(ulong)), bytes, entry);
                at += ((long)references * sizeof(ulong)) + skip;
            }

            if (at <= before)
            {
                throw new TornCopyException("an array of structs without an end");
            }
        }
    }

    private void ReachAll(byte* memory, long start, long end, long bytes, int entry)
    {
        if (start < sizeof(ulong) || end > bytes || end < start)
        {
            throw new TornCopyException("references beyond the end of an object");
        }

        for (long at = start; at < end; at += sizeof(ulong))
        {
            Reach(*(ulong*)(memory + at), entry);
        }
    }

    private void Reach(ulong target, int parent)
    {
        if (target == 0)
        {
            return;
        }

        if (target % sizeof(ulong) != 0)
        {
            throw new TornCopyException($"a reference to 0x{target:x}");
        }

        if (_segments.At(target) is not { } segment)
        {
            StrayReferences++;
        }
        else if (segment.TryMark(target))
        {
            _reached.Add(target, parent);
        }
    }

    private FieldKind KindAt(ulong instance, ulong methodTable, ObjectLayout layout, int offset)
    {
        bool isElement = layout.ElementBytes > 0;
        if (isElement && offset < layout.ElementsStart)
        {
            return FieldKind.Data;
        }

        int place = isElement ? (offset - layout.ElementsStart) % layout.ElementBytes : offset;
        if (!_kinds.TryGetValue((methodTable, place), out FieldKind kind))
        {
            _kinds[(methodTable, place)] = kind =
                !IsRuntimesOwn(RuntimeView.Ask(() => _runtime.TypeNameOf(instance)) ?? "") &&
                RuntimeView.Ask(() => _runtime.FieldAt(instance, place, isElement)) is { } field ? (FieldKind)field.Kind : FieldKind.Data;
        }

        return kind;
    }

    /// <summary>Objects by which the framework knows the runtime's own structures: those hold what the runtime needs, and nothing of a program.</summary>
    private static bool IsRuntimesOwn(string type) =>
        type is "System.Threading.Thread" or "System.Signature" ||
        type.StartsWith("System.Reflection.", StringComparison.Ordinal) ||
        type.StartsWith("System.RuntimeType", StringComparison.Ordinal) ||
        type.StartsWith("System.Runtime.Loader.", StringComparison.Ordinal);

    // The collector marks objects in the lowest bits.
    private static ulong MethodTableAt(HeapSegments.Segment segment, ulong instance) => *(ulong*)segment.Memory(instance) & ~7UL;

    private ulong BytesOf(HeapSegments.Segment segment, ulong instance) =>
        BytesOf(segment, instance, s_types.At(_memory, MethodTableAt(segment, instance)));

    private static ulong BytesOf(HeapSegments.Segment segment, ulong instance, ObjectLayout layout)
    {
        ulong room = segment.End - instance;
        ulong bytes = (ulong)layout.BaseBytes;
        if (layout.ElementBytes > 0 && room >= 16)
        {
            bytes += (ulong)*(uint*)segment.Memory(instance + sizeof(ulong)) * (ulong)layout.ElementBytes;
        }

        bytes = Math.Max((bytes + 7) & ~7UL, MinObjectBytes);

        // The last object of a part may end in what is never read: padding.
        return bytes <= room + 16 ? Math.Min(bytes, room) : throw new TornCopyException("an object beyond the end of its part of the heap");
    }

    private bool IsFree(HeapSegments.Segment segment, ulong instance) => MethodTableAt(segment, instance) == _freeType;

    private ulong SkipContext(ulong at)
    {
        foreach ((ulong start, ulong end) in _contexts)
        {
            if (at >= start && at <= end)
            {
                // Behind a context there is room for one more object of the smallest size, so that it can be closed.
                return end + MinObjectBytes;
            }
        }

        return at;
    }

    private int[] Walk(HeapSegments.Segment segment)
    {
        var first = new int[((segment.End - segment.Start) / PageBytes) + 1];
        Array.Fill(first, -1);
        Visit(segment, at =>
        {
            ref int known = ref first[(at - segment.Start) / PageBytes];
            known = known < 0 ? (int)(at - segment.Start) : known;
        });
        return first;
    }

    private void Visit(HeapSegments.Segment segment, Action<ulong> visit)
    {
        for (ulong at = segment.Start; at + sizeof(ulong) <= segment.End;)
        {
            ulong next = SkipContext(at);
            if (next != at)
            {
                at = next;
                continue;
            }

            ulong bytes = BytesOf(segment, at);
            visit(at);
            at += bytes;
        }
    }
}
