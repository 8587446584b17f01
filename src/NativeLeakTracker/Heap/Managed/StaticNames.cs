namespace NativeLeaks.Heap.Managed;

/// <summary>
/// Which static field lies at an address. Where each type has its static fields is read when somebody first asks, which takes some
/// ten milliseconds; types that are loaded with their arguments (<c>Cache&lt;string&gt;</c>) are among them. Not thread-safe.
/// </summary>
internal sealed class StaticNames
{
    private const int MaxTypes = 1 << 22;
    private const ulong IsLastOfBucket = 1;
    private const ulong IsNoMethodTable = 2;
    private const int TlsOffsetBits = 24;

    private readonly FrozenPages _memory;
    private readonly RuntimeStructures _structures;
    private readonly RuntimeContract _contract;
    private readonly Dictionary<ulong, (int Offset, bool IsThreads, bool IsReference, string Name)[]> _fields = [];

    private ulong[]? _starts;
    private ulong[] _owners = [];
    private Dictionary<uint, (ulong Type, bool IsReferences)> _threadOwners = [];

    public StaticNames(FrozenMemory memory, RuntimeStructures structures)
    {
        _memory = new FrozenPages(memory);
        _structures = structures;
        _contract = structures.Contract;
    }

    /// <summary>Where types have their static fields of primitive types, by address.</summary>
    public IEnumerable<ulong> Storages()
    {
        ReadOnce();
        return _starts!.Where((_, i) => (_owners[i] & 1) == 0);
    }

    /// <summary><c>Namespace.Type.Field</c>; null: there is no static field that is known.</summary>
    public string? At(ulong address)
    {
        ReadOnce();
        int index = Array.BinarySearch(_starts!, address);
        index = index >= 0 ? index : ~index - 1;
        if (index < 0)
        {
            return null;
        }

        // Types of which one has nothing there may have the same place.
        ulong start = _starts![index];
        while (index > 0 && _starts[index - 1] == start)
        {
            index--;
        }

        for (; index < _starts.Length && _starts[index] == start; index++)
        {
            if (NameOf(_owners[index] & ~1UL, address - start, isThreads: false, (_owners[index] & 1) != 0) is { } name)
            {
                return name;
            }
        }

        return null;
    }

    /// <summary><c>Namespace.Type.Field</c> of a field that has a value for each thread.</summary>
    /// <param name="element">Of the thread's array: its type's fields.</param>
    /// <param name="offset">In the array that holds those, from its first byte.</param>
    public string? OfThread(uint element, ulong offset)
    {
        ReadOnce();
        return _threadOwners.TryGetValue(element, out (ulong Type, bool IsReferences) owner)
            ? NameOf(owner.Type, offset, isThreads: true, owner.IsReferences)
            : null;
    }

    private string? NameOf(ulong type, ulong offset, bool isThreads, bool isReferences)
    {
        if (!_fields.TryGetValue(type, out (int Offset, bool IsThreads, bool IsReference, string Name)[]? fields))
        {
            _fields[type] = fields = _structures.Ask(() => _structures.StaticFields(type));
        }

        foreach ((int at, bool isThreadsField, bool isReference, string name) in fields)
        {
            if ((ulong)at == offset && isThreadsField == isThreads && isReference == isReferences)
            {
                return $"{_structures.Ask(() => _structures.FullTypeName(type))}.{MemberNames.OfField(name)}";
            }
        }

        return null;
    }

    private void ReadOnce()
    {
        if (_starts is not null)
        {
            return;
        }

        List<(ulong Start, ulong Owner)> places = [];
        Dictionary<uint, (ulong, bool)> threads = [];
        foreach (ulong type in AllTypes())
        {
            Read(type, places, threads);
        }

        places.Sort();
        _starts = [.. places.Select(static p => p.Start)];
        _owners = [.. places.Select(static p => p.Owner)];
        _threadOwners = threads;
    }

    // In front of a type's auxiliary data stands where its static fields are, if it has some, and as a check the type itself.
    private void Read(ulong type, List<(ulong, ulong)> places, Dictionary<uint, (ulong, bool)> threads)
    {
        int statics = _contract.Field("DynamicStaticsInfo", "!");
        if (!_memory.TryRead(type + (uint)_contract.Field("MethodTable", "AuxiliaryData"), out ulong auxiliary)
            || !_memory.TryRead(auxiliary - sizeof(ulong), out ulong owner) || owner != type)
        {
            return;
        }

        ulong info = auxiliary - (uint)statics;
        ulong mask = _contract.Global("StaticsPointerMask");
        if (_memory.TryRead(info + (uint)_contract.Field("DynamicStaticsInfo", "GCStatics"), out ulong references) && (references & mask) != 0)
        {
            places.Add((references & mask, type | 1));
        }

        if (_memory.TryRead(info + (uint)_contract.Field("DynamicStaticsInfo", "NonGCStatics"), out ulong others) && (others & mask) != 0)
        {
            places.Add((others & mask, type));
        }

        if (HasThreadStatics(type))
        {
            ulong threadInfo = auxiliary - (uint)_contract.Field("ThreadStaticsInfo", "!");
            AddThreadOwner(threadInfo + (uint)_contract.Field("ThreadStaticsInfo", "GCTlsIndex"), type, true, threads);
            AddThreadOwner(threadInfo + (uint)_contract.Field("ThreadStaticsInfo", "NonGCTlsIndex"), type, false, threads);
        }
    }

    private bool HasThreadStatics(ulong type)
    {
        int place = _contract.Field("MethodTable", "EEClassOrCanonMT");
        if (!_memory.TryRead(type + (uint)place, out ulong owner)
            || ((owner & 1) != 0 && !_memory.TryRead((owner & ~1UL) + (uint)place, out owner)))
        {
            return false;
        }

        return _memory.TryRead(owner + (uint)_contract.Field("EEClass", "NumThreadStaticFields"), out ushort count) && count != 0;
    }

    // Eight bits say in which of a thread's arrays, and the others which element of it; the array of types that stay is number 0.
    private void AddThreadOwner(ulong address, ulong type, bool isReferences, Dictionary<uint, (ulong, bool)> threads)
    {
        uint unused = (uint)_contract.Global("NumberOfTlsOffsetsNotUsedInNoncollectibleArray");
        if (_memory.TryRead(address, out uint index)
            && index >> TlsOffsetBits == 0 && index >= unused && index != 0)
        {
            threads[index - unused] = (type, isReferences);
        }
    }

    private HashSet<ulong> AllTypes()
    {
        HashSet<ulong> types = [];
        foreach (ulong module in _structures.Ask(_structures.Modules))
        {
            types.UnionWith(_structures.Ask(() => _structures.TypesOf(module)));
            AddConstructed(module, types);
        }

        return types;
    }

    /*
     * The types that a module has with their arguments stand in a hash table: an array of its length, the next larger one while it
     * grows, an end mark, and the buckets; in each entry a type and the next entry, or a mark that there is none.
     */
    private void AddConstructed(ulong module, HashSet<ulong> types)
    {
        const int Length = 0, Next = 1, Special = 3;
        int value = _contract.Field("EETypeHashTable", "VolatileEntryValue"), next = _contract.Field("EETypeHashTable", "VolatileEntryNextEntry");
        if (!_memory.TryRead(module + (uint)_contract.Field("Module", "AvailableTypeParams"), out ulong table) || table == 0
            || !_memory.TryRead(table + (uint)_contract.Field("EETypeHashTable", "Buckets"), out ulong buckets))
        {
            return;
        }

        HashSet<ulong> seen = [];
        while (buckets != 0 && seen.Add(buckets) && _memory.TryRead(buckets + (Length * sizeof(ulong)), out ulong length) && length < MaxTypes)
        {
            for (ulong bucket = 0; bucket < length; bucket++)
            {
                if (!_memory.TryRead(buckets + ((Special + bucket) * sizeof(ulong)), out ulong entry))
                {
                    return;
                }

                while (entry != 0 && (entry & IsLastOfBucket) == 0 && seen.Add(entry) && seen.Count < MaxTypes
                    && _memory.TryRead(entry + (uint)value, out ulong type))
                {
                    type &= ~1UL;
                    if (type != 0 && (type & IsNoMethodTable) == 0)
                    {
                        types.Add(type);
                    }

                    if (!_memory.TryRead(entry + (uint)next, out entry))
                    {
                        return;
                    }
                }
            }

            if (!_memory.TryRead(buckets + (Next * sizeof(ulong)), out buckets))
            {
                return;
            }
        }
    }
}
