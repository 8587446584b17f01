namespace NativeLeaks.Heap.Managed;

/// <summary>
/// Which static field lies at an address. Where each type has its static fields is read when somebody first asks, which takes some
/// ten milliseconds; types that are loaded with their arguments (<c>Cache&lt;string&gt;</c>) are among them. Not thread-safe.
/// </summary>
internal sealed class StaticNames
{
    private const int MaxTypes = 1 << 22;

    // More than any type has. Far behind the nearest there is something else, and it takes the runtime long to say so.
    private const ulong MaxStaticBytes = 1 << 16;
    private const int MaxMaps = 1 << 16;
    private const ulong IsLastOfBucket = 1;
    private const ulong IsNoMethodTable = 2;
    private const int TlsOffsetBits = 24;

    private readonly FrozenPages _memory;
    private readonly RuntimeStructures _structures;
    private readonly Places _at;
    private readonly Dictionary<ulong, (int Offset, bool IsThreads, bool IsReference, string Name)[]> _fields = [];

    private ulong[]? _starts;
    private ulong[] _owners = [];
    private Dictionary<uint, (ulong Type, bool IsReferences)> _threadOwners = [];

    public StaticNames(FrozenMemory memory, RuntimeStructures structures)
    {
        _memory = new FrozenPages(memory);
        _structures = structures;
        _at = new Places(structures.Contract);
    }

    /// <summary>Where types have their static fields of primitive types, by address.</summary>
    public IEnumerable<ulong> Storages()
    {
        ReadOnce();
        return _starts!.Where((_, i) => (_owners[i] & 1) == 0);
    }

    /// <summary><c>Namespace.Type.Field</c>; null: there is no static field that is known.</summary>
    public string? At(ulong address) => Find(address) is { Type: not 0 } found ? found.Name : null;

    /// <summary>The same with the type that declares it; 0: there is none.</summary>
    public (ulong Type, string Name) Find(ulong address)
    {
        ReadOnce();
        int index = Array.BinarySearch(_starts!, address);
        index = index >= 0 ? index : ~index - 1;
        if (index < 0 || address - _starts![index] > MaxStaticBytes)
        {
            return default;
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
                return (_owners[index] & ~1UL, name);
            }
        }

        return default;
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
        if (!_memory.TryRead(type + _at.AuxiliaryOfType, out ulong auxiliary)
            || !_memory.TryRead(auxiliary - sizeof(ulong), out ulong owner) || owner != type)
        {
            return;
        }

        ulong info = auxiliary - _at.StaticsBytes;
        if (_memory.TryRead(info + _at.References, out ulong references) && (references & _at.PointerMask) != 0)
        {
            places.Add((references & _at.PointerMask, type | 1));
        }

        if (_memory.TryRead(info + _at.Others, out ulong others) && (others & _at.PointerMask) != 0)
        {
            places.Add((others & _at.PointerMask, type));
        }

        if (HasThreadStatics(type))
        {
            ulong threadInfo = auxiliary - _at.ThreadStaticsBytes;
            AddThreadOwner(threadInfo + _at.ThreadReferences, type, true, threads);
            AddThreadOwner(threadInfo + _at.ThreadOthers, type, false, threads);
        }
    }

    private bool HasThreadStatics(ulong type) =>
        _memory.TryRead(type + _at.ClassOfType, out ulong owner)
        && ((owner & 1) == 0 || _memory.TryRead((owner & ~1UL) + _at.ClassOfType, out owner))
        && _memory.TryRead(owner + _at.ThreadStaticsOfClass, out ushort count) && count != 0;

    // Eight bits say in which of a thread's arrays, and the others which element of it; the array of types that stay is number 0.
    private void AddThreadOwner(ulong address, ulong type, bool isReferences, Dictionary<uint, (ulong, bool)> threads)
    {
        if (_memory.TryRead(address, out uint index) && index >> TlsOffsetBits == 0 && index >= _at.UnusedElements && index != 0)
        {
            threads[index - _at.UnusedElements] = (type, isReferences);
        }
    }

    private HashSet<ulong> AllTypes()
    {
        HashSet<ulong> types = [];
        foreach (ulong module in _structures.Ask(_structures.Modules))
        {
            AddDefined(module, types);
            AddConstructed(module, types);
        }

        return types;
    }

    // The types that a module defines stand in tables that are linked, each in the place that its number in the metadata gives it.
    private void AddDefined(ulong module, HashSet<ulong> types)
    {
        ulong map = module + _at.DefinedOfModule;
        for (int maps = 0; map != 0 && maps < MaxMaps; maps++)
        {
            if (!_memory.TryRead(map + _at.TableOfMap, out ulong table) || !_memory.TryRead(map + _at.CountOfMap, out uint count)
                || !_memory.TryRead(map + _at.FlagsOfMap, out ulong flags) || count > MaxTypes)
            {
                return;
            }

            for (ulong i = 0; i < count && _memory.TryRead(table + (i * sizeof(ulong)), out ulong type); i++)
            {
                if ((type & ~flags) != 0)
                {
                    types.Add(type & ~flags);
                }
            }

            map = _memory.TryRead(map + _at.NextOfMap, out ulong next) ? next : 0;
        }
    }

    /*
     * The types that a module has with their arguments stand in a hash table: an array of its length, the next larger one while it
     * grows, an end mark, and the buckets; in each entry a type and the next entry, or a mark that there is none.
     */
    private void AddConstructed(ulong module, HashSet<ulong> types)
    {
        const int Length = 0, Next = 1, Special = 3;
        if (!_memory.TryRead(module + _at.ConstructedOfModule, out ulong table) || table == 0
            || !_memory.TryRead(table + _at.BucketsOfTable, out ulong buckets))
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
                    && _memory.TryRead(entry + _at.TypeOfEntry, out ulong type))
                {
                    type &= ~1UL;
                    if (type != 0 && (type & IsNoMethodTable) == 0)
                    {
                        types.Add(type);
                    }

                    if (!_memory.TryRead(entry + _at.NextOfEntry, out entry))
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

    /// <summary>Where in the runtime's structures the fields are that lead to static fields.</summary>
    private sealed class Places(RuntimeContract contract)
    {
        public readonly ulong PointerMask = contract.Global("StaticsPointerMask");
        public readonly uint UnusedElements = (uint)contract.Global("NumberOfTlsOffsetsNotUsedInNoncollectibleArray");
        public readonly uint AuxiliaryOfType = Field(contract, "MethodTable", "AuxiliaryData");
        public readonly uint ClassOfType = Field(contract, "MethodTable", "EEClassOrCanonMT");
        public readonly uint ThreadStaticsOfClass = Field(contract, "EEClass", "NumThreadStaticFields");
        public readonly uint StaticsBytes = Field(contract, "DynamicStaticsInfo", "!");
        public readonly uint References = Field(contract, "DynamicStaticsInfo", "GCStatics");
        public readonly uint Others = Field(contract, "DynamicStaticsInfo", "NonGCStatics");
        public readonly uint ThreadStaticsBytes = Field(contract, "ThreadStaticsInfo", "!");
        public readonly uint ThreadReferences = Field(contract, "ThreadStaticsInfo", "GCTlsIndex");
        public readonly uint ThreadOthers = Field(contract, "ThreadStaticsInfo", "NonGCTlsIndex");
        public readonly uint DefinedOfModule = Field(contract, "Module", "TypeDefToMethodTableMap");
        public readonly uint TableOfMap = Field(contract, "ModuleLookupMap", "TableData");
        public readonly uint NextOfMap = Field(contract, "ModuleLookupMap", "Next");
        public readonly uint CountOfMap = Field(contract, "ModuleLookupMap", "Count");
        public readonly uint FlagsOfMap = Field(contract, "ModuleLookupMap", "SupportedFlagsMask");
        public readonly uint ConstructedOfModule = Field(contract, "Module", "AvailableTypeParams");
        public readonly uint BucketsOfTable = Field(contract, "EETypeHashTable", "Buckets");
        public readonly uint TypeOfEntry = Field(contract, "EETypeHashTable", "VolatileEntryValue");
        public readonly uint NextOfEntry = Field(contract, "EETypeHashTable", "VolatileEntryNextEntry");

        private static uint Field(RuntimeContract contract, string type, string field) => (uint)contract.Field(type, field);
    }
}
