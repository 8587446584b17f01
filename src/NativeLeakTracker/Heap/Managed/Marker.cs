using System.Runtime.CompilerServices;

namespace NativeLeaks.Heap.Managed;

/// <summary>
/// Follows references from object to object, as the collector does, and remembers from where each object was first reached. On
/// its way it looks at each word that may lead to native memory. Not thread-safe.
/// </summary>
/// <remarks>
/// Few calls do all the work, so nothing is gained by compiling them twice: what is compiled ahead of time cannot have the parts of the framework
/// inlined, takes twice as long, and would be kept for thirty judgements.
/// </remarks>
internal sealed unsafe class Marker : IDisposable
{
    private const uint ArrayHead = 2 * sizeof(ulong);
    private const int FirstDependent = int.MinValue;
    private const int LastRoot = -(1 << 30);
    private const int MaxWay = 64;
    private const int MoreRoom = 1 << 18;

    // Of types that stay as long as this process does. The runtime takes a tenth of a millisecond to tell one's fields.
    private static readonly System.Collections.Concurrent.ConcurrentDictionary<ulong, AddressFields> s_lasting = new();

    private readonly HeapImage _image;
    private readonly MethodTables _tables;
    private readonly RuntimeStructures _structures;
    private readonly (ulong Primary, ulong Second)[] _dependents;
    private readonly HashSet<ulong> _staticData;
    private readonly HashSet<ulong> _loaderAllocators;
    private readonly NativeBuffer _markBuffer, _queueBuffer, _parentBuffer;
    private readonly ulong* _marks;
    private readonly ulong* _queue;
    private readonly int* _parents;
    private readonly int _capacity;
    private int _room;
    private readonly List<ManagedRoot> _roots = [];

    // Objects of the runner of tests, by their index, as long as nobody goes past them.
    private readonly Queue<int> _ofTestRunner = new();
    private bool _passesTestRunner;

    private int _next;

    /// <param name="image">The heap.</param>
    /// <param name="tables">Its types.</param>
    /// <param name="structures">Tells which fields are addresses.</param>
    /// <param name="dependents">The second object of each lives as long as the first.</param>
    /// <param name="staticData">Arrays of bytes in which threads have their values of static fields.</param>
    /// <param name="loaderAllocators">Objects that hold the static fields of types that can be unloaded.</param>
    public Marker(
        HeapImage image,
        MethodTables tables,
        RuntimeStructures structures,
        (ulong Primary, ulong Second)[] dependents,
        HashSet<ulong> staticData,
        HashSet<ulong> loaderAllocators)
    {
        _image = image;
        _tables = tables;
        _structures = structures;
        _dependents = dependents;
        _staticData = staticData;
        _loaderAllocators = loaderAllocators;
        _capacity = (int)Math.Min((image.Bytes / 24) + 1, 1 << 30);
        _markBuffer = new NativeBuffer((image.Bytes / 64) + sizeof(ulong));
        _queueBuffer = new NativeBuffer((ulong)_capacity * sizeof(ulong));
        _parentBuffer = new NativeBuffer((ulong)_capacity * sizeof(int));
        _marks = (ulong*)_markBuffer.Start;
        _queue = (ulong*)_queueBuffer.Start;
        _parents = (int*)_parentBuffer.Start;
    }

    /// <summary>How many objects were found live.</summary>
    public int Count { get; private set; }

    /// <summary>The object that was found live as the index-th.</summary>
    public ulong this[int index] =>
        (uint)index < (uint)Count ? _queue[index] : throw new ArgumentOutOfRangeException(nameof(index));

    /// <summary>Finds what is live by these roots and was not by those of earlier calls.</summary>
    /// <exception cref="TornCopyException">Something on the way is no object.</exception>
    public void Flood(IEnumerable<ManagedRoot> roots, PointerTargets targets, List<ManagedHolder> found)
    {
        foreach (ManagedRoot root in roots)
        {
            if (_roots.Count >= -LastRoot)
            {
                throw new TornCopyException("There are more roots than can be.");
            }

            int before = Count;
            Push(root.Object, ~_roots.Count);
            if (Count != before)
            {
                _roots.Add(root);
            }
        }

        Drain(targets, found);
        for (bool goesOn = true; goesOn;)
        {
            int before = Count;
            for (int i = 0; i < _dependents.Length; i++)
            {
                (ulong primary, ulong second) = _dependents[i];
                if (IsMarked(primary) && !IsMarked(second))
                {
                    Push(second, FirstDependent + i);
                }
            }

            goesOn = Count != before;
            Drain(targets, found);
        }
    }

    /// <inheritdoc cref="ManagedHeap.PassTestRunner"/>
    public void PassTestRunner() => _passesTestRunner = true;

    public bool IsMarked(ulong address)
    {
        int segment = _image.SegmentAt(address);
        if (segment < 0)
        {
            return false;
        }

        ulong word = _image.WordAt(segment, address);
        return (_marks[word >> 6] & (1UL << (int)(word & 63))) != 0;
    }

    /// <summary>The object from which this one was first reached; -1: by the root.</summary>
    public int ParentOf(int index, out ManagedRoot root)
    {
        root = default;
        int parent = _parents[index];
        if (parent >= 0)
        {
            return parent;
        }

        if (parent < LastRoot)
        {
            // Of dependent handles only the object is known, not when it was found.
            return IndexOf(_dependents[parent - FirstDependent].Primary);
        }

        root = _roots[~parent];
        return -1;
    }

    public void Dispose()
    {
        _markBuffer.Dispose();
        _queueBuffer.Dispose();
        _parentBuffer.Dispose();
    }

    // Asked for a few objects of a report: to look through all is faster than a table of them.
    private int IndexOf(ulong address) => new ReadOnlySpan<ulong>(_queue, Count).IndexOf(address);

    private void MakeRoom()
    {
        if (_room == _capacity)
        {
            throw new TornCopyException("There are more objects than there is room for.");
        }

        int more = Math.Min(MoreRoom, _capacity - _room);
        Populate.ForWriting((ulong)(_queue + _room), (ulong)more * sizeof(ulong));
        Populate.ForWriting((ulong)(_parents + _room), (ulong)more * sizeof(int));
        _room += more;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Push(ulong address, int parent)
    {
        if (address == 0)
        {
            return;
        }

        int segment = _image.SegmentAt(address);
        if (segment < 0 || (address & 7) != 0)
        {
            throw new TornCopyException("A reference leads to where no object can be.");
        }

        ulong word = _image.WordAt(segment, address);
        ref ulong marks = ref _marks[word >> 6];
        ulong bit = 1UL << (int)(word & 63);
        if ((marks & bit) != 0)
        {
            return;
        }

        marks |= bit;
        if (Count == _room)
        {
            MakeRoom();
        }

        _queue[Count] = address;
        _parents[Count] = parent;
        Count++;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Drain(PointerTargets targets, List<ManagedHolder> found)
    {
        while (TryTakeNext(out int index))
        {
            ulong address = _queue[index];
            int segment = _image.SegmentAt(address);
            byte* start = _image.At(segment, address);
            ulong room = _image.EndOf(segment) - address;
            if (room < ArrayHead + sizeof(ulong))
            {
                throw new TornCopyException("An object is longer than its part of the heap.");
            }

            ref MethodTable table = ref _tables.At(*(ulong*)start);
            ulong bytes = table.BaseBytes + ((ulong)table.ComponentBytes * (table.HasComponents ? *(uint*)(start + sizeof(ulong)) : 0));
            if (table.IsFree || bytes > room)
            {
                throw new TornCopyException("An object is longer than its part of the heap, or none.");
            }

            if (table.DeclaredBy == TypeMaker.Tracker)
            {
                continue;
            }

            if (table.DeclaredBy == TypeMaker.TestRunner && !_passesTestRunner)
            {
                _ofTestRunner.Enqueue(index);
                continue;
            }

            if (table.Address == _tables.ObjectArray && _parents[index] >= 0 && _loaderAllocators.Contains(_queue[_parents[index]]))
            {
                AddStaticData(start, bytes);
            }

            if (table.Runs > 0)
            {
                if (table.IsRepeating)
                {
                    FollowElements(start, bytes, in table, index);
                }
                else
                {
                    Follow(start, bytes, in table, index);
                }
            }

            if (table.LoaderAllocator != 0)
            {
                Push(table.LoaderAllocator, index);
                _loaderAllocators.Add(table.LoaderAllocator);
            }

            if (table is { HasComponents: true, Runs: 0 } && _staticData.Contains(address))
            {
                LookAtData(start, bytes, index, targets, found);
            }
            else if (!ReferenceEquals(table.Addresses, AddressFields.None))
            {
                Look(address, start, bytes, ref table, index, targets, found);
            }
            else if (table.ComponentBytes == 1 && _image.KindOf(segment) == SegmentKind.Pinned)
            {
                // A buffer that native code writes to.
                LookAtData(start, bytes, index, targets, found);
            }
        }
    }

    // A loader allocator has the static fields of types that can be unloaded in arrays that it holds in an array: references in
    // arrays of objects, others in arrays of numbers (loaderallocator.cpp).
    private void AddStaticData(byte* start, ulong bytes)
    {
        for (var at = (ulong*)(start + ArrayHead); at < (ulong*)(start + bytes - sizeof(ulong)); at++)
        {
            _staticData.Add(*at);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool TryTakeNext(out int index)
    {
        if (_next < Count)
        {
            index = _next++;
            return true;
        }

        index = 0;
        return _passesTestRunner && _ofTestRunner.TryDequeue(out index);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Follow(byte* start, ulong bytes, in MethodTable table, int index)
    {
        foreach (ReferenceRun run in _tables.RunsOf(in table))
        {
            // Within the object: checked when the type was read.
            long length = (long)bytes + run.Extent;
            var at = (ulong*)(start + run.Start);
            for (ulong* end = at + (length / sizeof(ulong)); at < end; at++)
            {
                Push(*at, index);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void FollowElements(byte* start, ulong bytes, in MethodTable table, int index)
    {
        // Behind the last element comes the head of the next object, which counts as this one's.
        ReadOnlySpan<ReferenceRun> runs = _tables.RunsOf(in table);
        byte* end = start + bytes - sizeof(ulong);
        for (byte* element = start + table.FirstElement; element < end; element += table.ComponentBytes)
        {
            foreach (ReferenceRun run in runs)
            {
                var at = (ulong*)(element + run.Start);
                for (int i = 0; i < run.Extent && at < end; i++, at++)
                {
                    Push(*at, index);
                }
            }
        }
    }

    // The value first: the types of most objects never have to be asked for their fields.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Look(
        ulong address, byte* start, ulong bytes, ref MethodTable table, int index, PointerTargets targets, List<ManagedHolder> found)
    {
        uint first = sizeof(ulong);
        if (table.ComponentBytes > 0)
        {
            first = table.BaseBytes - sizeof(ulong);
            if (table.ComponentBytes % sizeof(ulong) != 0)
            {
                LookAtPacked(address, start, bytes, ref table, index, targets, found);
                return;
            }
        }

        var at = (ulong*)(start + first);
        for (var end = (ulong*)(start + bytes - sizeof(ulong)); at < end; at++)
        {
            if (targets.MayBe(*at) && targets.Find(*at) >= 0)
            {
                long offset = (byte*)at - start;
                Ask(address, ref table);
                if (table.Addresses.Has(table.ComponentBytes > 0 ? offset - first : offset))
                {
                    found.Add(new ManagedHolder(index, offset, *at, IsFrameworks(index)));
                }
            }
        }
    }

    // Elements that are no multiple of a word long: where their addresses lie only their fields can say.
    private void LookAtPacked(
        ulong address, byte* start, ulong bytes, ref MethodTable table, int index, PointerTargets targets, List<ManagedHolder> found)
    {
        Ask(address, ref table);
        byte* end = start + bytes - sizeof(ulong);
        foreach (int place in table.Addresses.Starts)
        {
            for (byte* at = start + table.BaseBytes - sizeof(ulong) + place; at + sizeof(ulong) <= end; at += table.ComponentBytes)
            {
                ulong word = Unsafe.ReadUnaligned<ulong>(at);
                if (targets.MayBe(word) && targets.Find(word) >= 0)
                {
                    found.Add(new ManagedHolder(index, at - start, word));
                }
            }
        }
    }

    private static void LookAtData(byte* start, ulong bytes, int index, PointerTargets targets, List<ManagedHolder> found)
    {
        var at = (ulong*)(start + ArrayHead);
        for (var end = (ulong*)(start + bytes - sizeof(ulong)); at + 1 <= end; at++)
        {
            if (targets.MayBe(*at) && targets.Find(*at) >= 0)
            {
                found.Add(new ManagedHolder(index, (byte*)at - start, *at));
            }
        }
    }

    // What is in the framework's containers is that of the object which has the container. Where that is a static field, of which the type is not
    // known here, nearly always the framework's.
    private bool IsFrameworks(int index)
    {
        for (int steps = 0; index >= 0 && steps < MaxWay; steps++)
        {
            ulong address = _queue[index];
            ref MethodTable table = ref _tables.At(*(ulong*)_image.At(_image.SegmentAt(address), address));
            if (table.DeclaredBy != TypeMaker.Framework || !table.IsContainer)
            {
                return table.DeclaredBy == TypeMaker.Framework;
            }

            index = _parents[index];
        }

        return true;
    }

    private void Ask(ulong address, ref MethodTable table)
    {
        if (!ReferenceEquals(table.Addresses, AddressFields.NotAsked))
        {
            return;
        }

        ulong type = table.Address;
        if (table.IsLasting && s_lasting.TryGetValue(type, out AddressFields? known))
        {
            table.Addresses = known;
            return;
        }

        table.Addresses = IsRuntimesOwn(_structures.Ask(() => _structures.RawTypeName(type)))
            ? AddressFields.None
            : AddressFields.Of(_structures.Ask(() => _structures.Fields(address, type)), table.ComponentBytes);
        if (table.IsLasting)
        {
            s_lasting[type] = table.Addresses;
        }
    }

    /// <summary>Objects by which the framework knows the runtime's own structures: these hold what the runtime needs, and nothing of a program.</summary>
    private static bool IsRuntimesOwn(string type) =>
        type is "System.Threading.Thread" or "System.Signature" ||
        type.StartsWith("System.Reflection.", StringComparison.Ordinal) ||
        type.StartsWith("System.RuntimeType", StringComparison.Ordinal) ||
        type.StartsWith("System.Runtime.Loader.", StringComparison.Ordinal);
}
