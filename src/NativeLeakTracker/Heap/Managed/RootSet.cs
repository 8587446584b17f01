namespace NativeLeaks.Heap.Managed;

/// <summary>What keeps objects alive, as the runtime tells it: handles, objects that wait for their finalizer, static fields.</summary>
internal sealed class RootSet
{
    private const string LoaderAllocator = "System.Reflection.LoaderAllocator";
    private const int MaxThreadStatics = 1 << 20;

    // ThreadLocalData, rounded up (threadstatics.h): pointers, and 48 bytes of values.
    private const ulong InlineThreadStaticsBytes = 128;
    private const ulong MaxFinalizable = 1 << 26;

    private readonly FrozenMemory _memory;
    private readonly RuntimeStructures _structures;
    private readonly HeapImage _image;
    private readonly MethodTables _tables;
    private readonly ObjectStarts _starts;
    private readonly List<ManagedRoot> _roots = [];
    private readonly Dictionary<ulong, bool> _isLoaderAllocator = [];

    public RootSet(FrozenMemory memory, RuntimeStructures structures, HeapImage image, MethodTables tables, ObjectStarts starts)
    {
        _memory = memory;
        _structures = structures;
        _image = image;
        _tables = tables;
        _starts = starts;
        AddHandles();
        AddThreadStatics();
        AddFinalizerQueue();
        Roots = _roots;
    }

    public IReadOnlyList<ManagedRoot> Roots { get; }

    /// <summary>The second object of each lives as long as the first.</summary>
    public (ulong Primary, ulong Second)[] Dependents { get; private set; } = [];

    /// <summary>Objects that a handle keeps in their place.</summary>
    public HashSet<ulong> Pinned { get; } = [];

    /// <summary>Arrays of bytes in which threads have their values of static fields that are no references.</summary>
    public HashSet<ulong> StaticData { get; } = [];

    /// <summary>Where threads have the first of their static fields of primitive types: in native thread storage.</summary>
    public List<AddressRange> InlineThreadStatics { get; } = [];

    /// <summary>Objects that hold the static fields of types that can be unloaded.</summary>
    public HashSet<ulong> LoaderAllocators { get; } = [];

    private void AddHandles()
    {
        List<(ulong, ulong)> dependents = [];
        HashSet<ulong> statics = [];
        foreach ((ulong slot, ulong address, int number, ulong second) in _structures.Ask(_structures.Handles))
        {
            var kind = (HandleKind)number;
            if (kind is HandleKind.Pinned or HandleKind.AsyncPinned)
            {
                Pinned.Add(address);
            }

            switch (kind)
            {
                case HandleKind.Dependent when second != 0:
                    dependents.Add((address, second));
                    break;
                case HandleKind.Strong or HandleKind.SizedReference or HandleKind.Pinned when HoldsStatics(address):
                    Add(RootKind.Static, address, slot);
                    statics.Add(address);
                    break;
                case HandleKind.Strong or HandleKind.SizedReference:
                    Add(RootKind.StrongHandle, address, slot);
                    break;
                case HandleKind.Pinned:
                    Add(RootKind.PinnedHandle, address, slot);
                    break;
                case HandleKind.AsyncPinned:
                    Add(RootKind.AsyncPinned, address, slot);
                    break;
                case HandleKind.RefCounted:
                    Add(RootKind.RefCounted, address, slot);
                    break;
            }
        }

        Dependents = [.. dependents];
        if (_structures.Ask(_structures.IsServer))
        {
            // With a heap for each processor the runtime's reader loses handles when the number of heaps goes down. Those of static
            // fields can do without: hardly anybody else makes arrays of objects there.
            foreach (ulong address in _starts.AllOf(SegmentKind.Pinned, _tables.ObjectArray).Where(statics.Add))
            {
                Add(RootKind.Static, address, 0);
            }
        }
    }

    // Static references lie in arrays of objects that the runtime keeps where they are; those of a load context that can be
    // unloaded, in arrays that its loader allocator holds, for as long as the context is not unloaded by a handle.
    private bool HoldsStatics(ulong address)
    {
        int segment = _image.SegmentAt(address);
        if (segment < 0 || !_image.TryReadWord(address, out ulong table))
        {
            return false;
        }

        if (table == _tables.ObjectArray)
        {
            return _image.KindOf(segment) == SegmentKind.Pinned;
        }

        if (!_isLoaderAllocator.TryGetValue(table, out bool isLoaderAllocator))
        {
            table = _tables.At(table).Address;
            isLoaderAllocator = _structures.Ask(() => _structures.RawTypeName(table)) == LoaderAllocator;
            _isLoaderAllocator.Add(table, isLoaderAllocator);
        }

        if (isLoaderAllocator)
        {
            LoaderAllocators.Add(address);
        }

        return isLoaderAllocator;
    }

    private void AddThreadStatics()
    {
        RuntimeContract contract = _structures.Contract;
        contract.Require("Thread", 1);
        int dataOfThread = contract.Field("Thread", "ThreadLocalDataPtr");
        int arrayOfData = contract.Field("ThreadLocalData", "NonCollectibleTlsArrayData");
        int lengthOfArray = contract.Field("Array", "m_NumComponents");
        ulong firstElement = contract.Global("PtrArrayOffsetToDataArray");
        foreach ((ulong thread, _, int id) in _structures.Ask(_structures.Threads))
        {
            if (!_memory.TryReadWord(thread + (uint)dataOfThread, out ulong data) || data == 0)
            {
                continue;
            }

            InlineThreadStatics.Add(new AddressRange(data, data + InlineThreadStaticsBytes));
            if (!_memory.TryReadWord(data + (uint)arrayOfData, out ulong array) || array == 0)
            {
                continue;
            }

            Add(RootKind.ThreadStatic, array, data + (uint)arrayOfData, id);
            if (!_image.TryReadWord(array + (uint)lengthOfArray, out ulong length) || (uint)length > MaxThreadStatics)
            {
                throw new TornCopyException("A thread's static fields cannot be read.");
            }

            for (uint i = 0; i < (uint)length; i++)
            {
                if (_image.TryReadWord(array + firstElement + (i * sizeof(ulong)), out ulong element) && element != 0)
                {
                    StaticData.Add(element);
                }
            }
        }
    }

    private void AddFinalizerQueue()
    {
        foreach ((ulong start, ulong end) in _structures.Ask(_structures.FinalizerQueue))
        {
            if (end - start > MaxFinalizable * sizeof(ulong) && end != start)
            {
                throw new TornCopyException("The finalizer's queue cannot be read.");
            }

            for (ulong slot = start; slot < end; slot += sizeof(ulong))
            {
                if (!_memory.TryReadWord(slot, out ulong address))
                {
                    throw new TornCopyException("The finalizer's queue cannot be read.");
                }

                Add(RootKind.FinalizerQueue, address, slot);
            }
        }
    }

    private void Add(RootKind kind, ulong address, ulong slot, int thread = 0)
    {
        if (address != 0)
        {
            _roots.Add(new ManagedRoot(kind, address, slot, thread));
        }
    }
}
