using System.Runtime.CompilerServices;

namespace NativeLeaks.Heap.Managed;

/// <summary>
/// What the collector knows of each type: how large its objects are and where in them references lie (gcdesc.h of the runtime).
/// Read from the copy when a type is first met, and checked. Not thread-safe.
/// </summary>
internal sealed class MethodTables
{
    // The part of the flags that the collector depends on, and so does not change (gcinterface of the runtime).
    private const uint HasComponents = 0x80000000;
    private const uint HasReferences = 0x01000000;
    private const uint IsCollectible = 0x00200000;

    // Of a type without components (methodtable.h of the runtime): generic in any way; a structure, an enumeration or a number.
    private const uint GenericsMask = 0x30;
    private const uint CategoryMask = 0x000c0000;
    private const uint ValueType = 0x00040000;

    private const ulong CanonicalIsElsewhere = 1;
    private const int DescriptorHead = sizeof(ulong);
    private const int SeriesBytes = 2 * sizeof(ulong);
    private const int MaxTypes = 1 << 22;
    private const int Recent = 1 << 10;
    private const uint MinObjectBytes = 3 * sizeof(ulong);
    private const uint MaxBaseBytes = 1 << 27;

    private readonly FrozenMemory _memory;
    private readonly RuntimeStructures _structures;
    private readonly int _flags, _baseSize, _class, _tableOfClass, _module;
    private readonly IReadOnlyDictionary<ulong, TypeMaker> _makers;
    private readonly byte[] _head;
    private readonly Dictionary<ulong, int> _indexes = [];
    private readonly List<ReferenceRun> _runs = [];

    private MethodTable[] _tables = new MethodTable[1024];
    private int _count;

    // Of the last types, by a part of their addresses: objects of a few types follow each other.
    private readonly (ulong Address, int Index)[] _recent = new (ulong, int)[Recent];

    public MethodTables(FrozenMemory memory, RuntimeStructures structures)
    {
        _memory = memory;
        _structures = structures;
        RuntimeContract contract = structures.Contract;
        contract.Require("RuntimeTypeSystem", 1);
        _flags = contract.Field("MethodTable", "MTFlags");
        _baseSize = contract.Field("MethodTable", "BaseSize");
        _class = contract.Field("MethodTable", "EEClassOrCanonMT");
        _tableOfClass = contract.Field("EEClass", "MethodTable");
        _head = new byte[contract.Field("MethodTable", "!")];
        FreeObject = Variable("FreeObjectMethodTable");
        ObjectArray = Variable("ObjectArrayMethodTable");
        String = Variable("StringMethodTable");
        _module = contract.Field("MethodTable", "Module");
        _makers = memory is FrozenCopy ? TypeMakers.OfThisProcess(type => memory.TryReadWord(type + (uint)_module, out ulong module) ? module : 0)
            : new Dictionary<ulong, TypeMaker>();
    }

    /// <summary>Of what fills gaps between objects.</summary>
    public ulong FreeObject { get; }

    /// <summary>Of object[].</summary>
    public ulong ObjectArray { get; }

    public ulong String { get; }

    /// <summary>The table at an address.</summary>
    /// <exception cref="TornCopyException">There is none.</exception>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ref MethodTable At(ulong address)
    {
        ref (ulong Address, int Index) recent = ref _recent[(int)((address >> 3) ^ (address >> 11)) & (Recent - 1)];
        if (address != recent.Address || address == 0)
        {
            recent = (address, _indexes.TryGetValue(address, out int index) ? index : Load(address));
        }

        return ref _tables[recent.Index];
    }

    public ReadOnlySpan<ReferenceRun> RunsOf(in MethodTable table) =>
        System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_runs).Slice(table.FirstRun, table.Runs);

    private ulong Variable(string name) =>
        _memory.TryReadWord(_structures.Contract.Global(name), out ulong value) ? value : throw new TornCopyException($"{name} cannot be read.");

    private int Load(ulong address)
    {
        if (address == 0 || (address & 7) != 0 || address > 1UL << 47 || _count == MaxTypes
            || _memory.Read(address, _head) != _head.Length || !IsTable(address))
        {
            throw new TornCopyException("What should be an object has no type.");
        }

        uint flags = BitConverter.ToUInt32(_head, _flags);
        uint baseBytes = BitConverter.ToUInt32(_head, _baseSize);
        uint componentBytes = (flags & HasComponents) != 0 ? flags & 0xffff : 0;
        if (baseBytes is < MinObjectBytes - sizeof(ushort) or > MaxBaseBytes || (componentBytes == 0 && baseBytes % sizeof(ulong) != 0))
        {
            throw new TornCopyException("A type has an impossible size.");
        }

        var table = new MethodTable
        {
            Address = address,
            BaseBytes = baseBytes,
            ComponentBytes = componentBytes,
            HasComponents = (flags & HasComponents) != 0,
            IsFree = address == FreeObject,
            IsContainer = (flags & (HasComponents | GenericsMask)) != 0 || (flags & CategoryMask) == ValueType,
            DeclaredBy = _makers.GetValueOrDefault(BitConverter.ToUInt64(_head, _module)),
            IsLasting = _memory is FrozenCopy && (flags & IsCollectible) == 0,
            FirstRun = _runs.Count,
            Addresses = componentBytes is > 0 and < sizeof(ulong) || address == FreeObject ? AddressFields.None : AddressFields.NotAsked,
        };
        if ((flags & HasReferences) != 0)
        {
            ReadDescriptor(ref table);
        }

        table.Runs = _runs.Count - table.FirstRun;
        if ((flags & IsCollectible) != 0)
        {
            ulong handle = _structures.Ask(() => _structures.LoaderAllocatorHandle(address));
            table.LoaderAllocator = handle != 0 && _memory.TryReadWord(handle, out ulong loader) ? loader : 0;
        }

        if (_count == _tables.Length)
        {
            Array.Resize(ref _tables, 2 * _tables.Length);
        }

        _tables[_count] = table;
        _indexes.Add(address, _count);
        return _count++;
    }

    // It leads to a class, itself or by the table that it shares it with, and that class leads back.
    private bool IsTable(ulong address)
    {
        if (address == FreeObject)
        {
            return true;
        }

        ulong owner = address;
        ulong next = BitConverter.ToUInt64(_head, _class);
        if ((next & CanonicalIsElsewhere) != 0)
        {
            owner = next & ~CanonicalIsElsewhere;
            if (!_memory.TryReadWord(owner + (uint)_class, out next) || (next & CanonicalIsElsewhere) != 0)
            {
                return false;
            }
        }

        return _memory.TryReadWord(next + (uint)_tableOfClass, out ulong back) && back == owner;
    }

    /*
     * In front of the method table stands the number of series, and in front of that, the last first, each series: its length less
     * the object's, and where it begins. A negative number: the elements of an array are structures. Then the first series
     * is a place to begin at, and what would be its length, and that of the following, are pairs: so many references, and so
     * many bytes to skip to the next.
     */
    private void ReadDescriptor(ref MethodTable table)
    {
        if (!_memory.TryReadWord(table.Address - DescriptorHead, out ulong word))
        {
            throw new TornCopyException("A type's references cannot be read.");
        }

        long series = (long)word;
        table.IsRepeating = series < 0;
        long limit = series < 0 ? table.ComponentBytes / sizeof(ulong) : (table.BaseBytes / SeriesBytes) + 1;
        long count = Math.Abs(Math.Max(series, -limit - 1));
        if (count == 0 || count > limit)
        {
            throw new TornCopyException("A type has an impossible number of references.");
        }

        int bytes = series < 0 ? (int)(sizeof(ulong) + (count * sizeof(ulong))) : (int)(count * SeriesBytes);
        var descriptor = new byte[bytes];
        if (_memory.Read(table.Address - DescriptorHead - (uint)bytes, descriptor) != bytes)
        {
            throw new TornCopyException("A type's references cannot be read.");
        }

        if (series < 0)
        {
            ReadElement(ref table, descriptor, (int)count);
            return;
        }

        for (int at = bytes - SeriesBytes; at >= 0; at -= SeriesBytes)
        {
            AddRun(in table, BitConverter.ToInt64(descriptor, at), BitConverter.ToInt64(descriptor, at + sizeof(ulong)));
        }
    }

    private void AddRun(in MethodTable table, long lessThanObject, long start)
    {
        // The shortest object that this type can have must hold all of it.
        if (start < sizeof(ulong) || start % sizeof(ulong) != 0 || start > table.BaseBytes
            || lessThanObject < -(long)table.BaseBytes || start + lessThanObject > 0)
        {
            throw new TornCopyException("A type's references lie outside of its objects.");
        }

        _runs.Add(new ReferenceRun((int)start, (int)lessThanObject));
    }

    private void ReadElement(ref MethodTable table, byte[] descriptor, int count)
    {
        long start = BitConverter.ToInt64(descriptor, descriptor.Length - sizeof(ulong));
        if (start < sizeof(ulong) || start % sizeof(ulong) != 0 || start >= table.BaseBytes + table.ComponentBytes)
        {
            throw new TornCopyException("A type's references lie outside of its objects.");
        }

        table.FirstElement = (uint)start;
        long offset = 0;
        for (int i = 0; i < count; i++)
        {
            int at = descriptor.Length - ((i + 2) * sizeof(ulong));
            uint references = BitConverter.ToUInt32(descriptor, at);
            uint skip = BitConverter.ToUInt32(descriptor, at + sizeof(uint));
            if (references == 0 || references > table.ComponentBytes || skip > table.ComponentBytes || skip % sizeof(ulong) != 0)
            {
                throw new TornCopyException("The references of a type's elements are impossible.");
            }

            _runs.Add(new ReferenceRun((int)offset, (int)references));
            offset += (references * sizeof(ulong)) + skip;
        }

        if (offset != table.ComponentBytes)
        {
            throw new TornCopyException("The references of a type's elements are impossible.");
        }
    }
}

/// <summary>References that lie side by side.</summary>
/// <param name="Start">In the object; of an array of structures, in the element.</param>
/// <param name="Extent">Their bytes less those of the object; of an array of structures, how many they are.</param>
internal readonly record struct ReferenceRun(int Start, int Extent);

/// <summary>A type, as far as its objects must be followed.</summary>
internal struct MethodTable
{
    public ulong Address;
    public uint BaseBytes;
    public uint ComponentBytes;
    public bool HasComponents;

    /// <summary>An array of structures that have references.</summary>
    public bool IsRepeating;

    public bool IsFree;

    /// <summary>An array, a generic type such as a collection, or a box: what is in it is its user's.</summary>
    public bool IsContainer;

    /// <summary>Who wrote it.</summary>
    public TypeMaker DeclaredBy;

    /// <summary>One of this process, that is never unloaded.</summary>
    public bool IsLasting;

    /// <summary>Where the elements of such an array begin.</summary>
    public uint FirstElement;

    public int FirstRun;
    public int Runs;

    /// <summary>The object that every object of the type keeps alive, as long as its assembly can be unloaded; else 0.</summary>
    public ulong LoaderAllocator;

    /// <summary>Which of its words may be addresses.</summary>
    public AddressFields Addresses;
}
