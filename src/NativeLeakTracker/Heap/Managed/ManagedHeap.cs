namespace NativeLeaks.Heap.Managed;

/// <summary>
/// The objects in a copy of a process: which are live and by what, and which words in them may lead to native memory. Only one
/// is open at a time: the next waits until this one was disposed. Not thread-safe. The first costs half a second, later ones
/// some ten milliseconds and what it takes to copy the heap.
/// </summary>
internal sealed class ManagedHeap : IDisposable
{
    private readonly RuntimeStructures _structures;
    private readonly HeapImage _image;
    private readonly MethodTables _tables;
    private readonly ObjectStarts _starts;
    private readonly Marker _marker;
    private readonly ObjectFields _fields;
    private readonly StaticNames _statics;
    private readonly HolderPaths _paths;
    private readonly HashSet<ulong> _pinned;

    private ManagedHeap(FrozenMemory memory, RuntimeStructures structures)
    {
        _structures = structures;
        if (!structures.Ask(structures.IsWalkable))
        {
            throw new TornCopyException("A collection was under way.");
        }

        _image = HeapImage.Read(memory, structures.Ask(structures.Segments));

        // Each collection marks objects.
        (memory as FrozenCopy)?.WillBeWritten(_image.Ranges);
        try
        {
            _tables = new MethodTables(memory, structures);
            _starts = new ObjectStarts(_image, _tables, structures.Ask(structures.AllocationContexts));
            try
            {
                var roots = new RootSet(memory, structures, _image, _tables, _starts);
                Roots = roots.Roots;
                _pinned = roots.Pinned;
                ThreadStatics = roots.InlineThreadStatics;
                Ranges = [.. structures.Ask(structures.Reserved).Select(static r => new AddressRange(r.Start, r.End))];
                _marker = new Marker(_image, _tables, structures, roots.Dependents, roots.StaticData, roots.LoaderAllocators);
                _fields = new ObjectFields(_image, _tables, structures);
                _statics = new StaticNames(memory, structures);
                _paths = new HolderPaths(memory, _marker, _fields, _statics, structures);
            }
            catch
            {
                _starts.Dispose();
                throw;
            }
        }
        catch
        {
            _image.Dispose();
            throw;
        }
    }

    /// <summary>All roots that the runtime knows of but those on stacks.</summary>
    public IReadOnlyList<ManagedRoot> Roots { get; }

    /// <summary>The collector's address space: where objects are, and where they may come to be.</summary>
    public IReadOnlyList<AddressRange> Ranges { get; }

    /// <inheritdoc cref="RootSet.InlineThreadStatics"/>
    public IReadOnlyList<AddressRange> ThreadStatics { get; }

    /// <summary>How many objects were found live so far.</summary>
    public int LiveObjects => _marker.Count;

    /// <exception cref="HeapUnavailableException">There is no heap that can be read, in this copy or in any other.</exception>
    /// <exception cref="TornCopyException">Not in this copy.</exception>
    public static ManagedHeap Open(FrozenMemory memory)
    {
        RuntimeStructures structures = RuntimeStructures.Open(memory);
        try
        {
            return new ManagedHeap(memory, structures);
        }
        catch
        {
            structures.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Finds the objects that are live by these roots and were not by those of earlier calls, and in them the words that lead
    /// to the targets.
    /// </summary>
    /// <exception cref="TornCopyException">Something on the way is no object.</exception>
    public void Flood(IEnumerable<ManagedRoot> roots, PointerTargets targets, List<ManagedHolder> found) =>
        _marker.Flood(roots, targets, found);

    /// <summary>
    /// Until this is called, objects of the classes of a runner of tests are live, and what they refer to is not. Then it is, from the
    /// next <see cref="Flood"/> on.
    /// </summary>
    public void PassTestRunner() => _marker.PassTestRunner();

    /// <summary>The first byte of the object, live or dead, that an address lies in; 0: there is none.</summary>
    /// <exception cref="TornCopyException">The objects do not follow each other as they must.</exception>
    public ulong ObjectAt(ulong address) => _starts.Find(address);

    /// <summary>Whether an address lies where objects are.</summary>
    public bool IsInHeap(ulong address) => _image.SegmentAt(address) >= 0;

    /// <summary>Whether an object was found live so far.</summary>
    public bool IsMarked(ulong address) => _marker.IsMarked(address);

    /// <summary>Whether an object stays where it is, so that native memory may point to it.</summary>
    public bool IsPinned(ulong address) =>
        _image.SegmentAt(address) is >= 0 and var segment
        && (_image.KindOf(segment) is SegmentKind.Pinned or SegmentKind.Frozen || _pinned.Contains(address));

    /// <summary>The array of numbers or the string whose first element an address is; null when there is none.</summary>
    /// <exception cref="TornCopyException">The objects do not follow each other as they must.</exception>
    public (ulong Object, string TypeName)? ContentsAt(ulong address)
    {
        ulong found = ObjectAt(address);
        if (found == 0)
        {
            return null;
        }

        ulong type = _fields.TypeOf(found);
        ref MethodTable table = ref _tables.At(type);
        ulong first = type == _tables.String ? sizeof(ulong) + sizeof(int) : table.BaseBytes - sizeof(ulong);
        return table.ComponentBytes > 0 && table.Runs == 0 && address == found + first ? (found, TypeNameOf(found)) : null;
    }

    /// <summary>The name of an object's type as C# writes it, without its namespace.</summary>
    public string TypeNameOf(ulong address) => _fields.NameOf(address);

    /// <summary>
    /// The way from what keeps the object alive to the word, as the source reads, without what the word leads to:
    /// <c>static Cache.Instance -> Dictionary&lt;string, SafeStatement&gt;["q1"] -> SafeStatement.handle</c>.
    /// </summary>
    public string PathTo(in ManagedHolder holder) => _paths.To(in holder);

    /// <summary>
    /// The static field of a primitive type that lies at an address: <c>static Cache.s_block</c>; null: there is none. The first
    /// question takes some ten milliseconds.
    /// </summary>
    public string? StaticAt(ulong address) => StaticAt(address, out _);

    /// <inheritdoc cref="StaticAt(ulong)"/>
    public string? StaticAt(ulong address, out TypeMaker maker)
    {
        (ulong type, string name) = _statics.Find(address);
        maker = type == 0 ? TypeMaker.Program : _tables.At(type).DeclaredBy;
        return type == 0 ? null : $"static {name}";
    }

    /// <summary>Where types have their static fields of primitive types, by address. Costs as the first question for a name.</summary>
    public IEnumerable<ulong> StaticStorages() => _statics.Storages();

    /// <summary>What keeps the object of a holder alive.</summary>
    public ManagedRoot RootOf(in ManagedHolder holder)
    {
        int index = holder.Index;
        ManagedRoot root;
        while ((index = _marker.ParentOf(index, out root)) >= 0)
        {
        }

        return root;
    }

    /// <summary>The managed method at an address, as the runtime spells it; empty: there is none.</summary>
    public string MethodAt(ulong address) => _structures.Ask(() => _structures.MethodAt(address));

    /// <inheritdoc/>
    public void Dispose()
    {
        _marker.Dispose();
        _starts.Dispose();
        _image.Dispose();
        _structures.Dispose();
    }
}
