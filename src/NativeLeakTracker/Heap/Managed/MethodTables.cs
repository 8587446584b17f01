using System.Buffers.Binary;

namespace NativeLeaks.Heap.Managed;

/// <summary>What the collector knows of a type: the size of its objects, and where references are in them.</summary>
/// <param name="BaseBytes">Of an object without elements.</param>
/// <param name="ElementBytes">0: it is no array and no string.</param>
/// <param name="Series">Runs of references: <c>Bytes</c> is what a run is longer than the object, <c>Start</c> where it begins.</param>
/// <param name="Items">Of an array of structs: references in a row and bytes to skip after them, again and again.</param>
/// <param name="ItemsStart">Where the first item begins.</param>
/// <param name="IsCollectible">A loader allocator keeps its statics.</param>
/// <param name="IsOwn">The tracker's: what its objects know, they do not hold.</param>
/// <param name="MayHoldPointers">Whether it has room for one at all.</param>
internal sealed record ObjectLayout(
    int BaseBytes,
    int ElementBytes,
    IReadOnlyList<(long Bytes, long Start)> Series,
    IReadOnlyList<(int References, int SkipBytes)> Items,
    long ItemsStart,
    bool IsCollectible,
    bool IsOwn,
    bool MayHoldPointers)
{
    /// <summary>Where the first element is: elements end an array.</summary>
    public int ElementsStart => BaseBytes - sizeof(ulong);

    /// <summary>Of a collectible type: the object that keeps its statics, once it was looked up.</summary>
    public ulong? LoaderAllocator { get; set; }
}

/// <summary>
/// Reads method tables as the collector does (.NET 10: src/coreclr/gc/env/gcenv.object.h, src/coreclr/gc/gcdesc.h). Remembers them: of types that
/// cannot be collected they never change.
/// </summary>
internal sealed class MethodTables
{
    private const uint HasElements = 0x80000000, HasReferences = 0x01000000, Collectible = 0x00200000;
    private const int MaxSeries = 4096;
    private const int MinBaseBytes = 16;
    private const int HeadBytes = 64;

    private readonly Dictionary<ulong, ObjectLayout> _known = [];
    private readonly Dictionary<ulong, ObjectLayout> _collectible = [];
    private readonly int _moduleOffset;
    private readonly ulong _ownModule;

    public MethodTables()
    {
        (_moduleOffset, _ownModule) = FindModule();
    }

    public static ulong OfString { get; } = (ulong)typeof(string).TypeHandle.Value;

    public static ulong OfObjectArray { get; } = (ulong)typeof(object[]).TypeHandle.Value;

    /// <summary>Another copy is looked at: types that could be collected may be others.</summary>
    public void Forget() => _collectible.Clear();

    /// <exception cref="TornCopyException">There is no method table.</exception>
    public ObjectLayout At(FrozenMemory memory, ulong methodTable)
    {
        if (_known.TryGetValue(methodTable, out ObjectLayout? layout) || _collectible.TryGetValue(methodTable, out layout))
        {
            return layout;
        }

        layout = Read(memory, methodTable);
        (layout.IsCollectible ? _collectible : _known)[methodTable] = layout;
        return layout;
    }

    private ObjectLayout Read(FrozenMemory memory, ulong methodTable)
    {
        Span<byte> head = stackalloc byte[HeadBytes];
        if (methodTable == 0 || methodTable % sizeof(ulong) != 0 || memory.Read(methodTable, head) < HeadBytes)
        {
            throw new TornCopyException($"no type is at 0x{methodTable:x}");
        }

        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(head);
        int baseBytes = BinaryPrimitives.ReadInt32LittleEndian(head[4..]);
        int elementBytes = (flags & HasElements) != 0 ? (int)(flags & 0xffff) : 0;
        if (baseBytes is < MinBaseBytes or > 1 << 28)
        {
            throw new TornCopyException($"what is at 0x{methodTable:x} is no type");
        }

        List<(long, long)> series = [];
        List<(int, int)> items = [];
        long itemsStart = 0;
        if ((flags & HasReferences) != 0)
        {
            ReadReferences(memory, methodTable, series, items, ref itemsStart);
        }

        // Bytes, characters, integers and floating point numbers of 32 bits are no pointers.
        bool mayHold = methodTable != OfString && (elementBytes == 0 ? baseBytes > MinBaseBytes : elementBytes >= sizeof(ulong));
        return new ObjectLayout(
            baseBytes,
            elementBytes,
            series,
            items,
            itemsStart,
            (flags & Collectible) != 0,
            _moduleOffset != 0 && BinaryPrimitives.ReadUInt64LittleEndian(head[_moduleOffset..]) == _ownModule,
            mayHold);
    }

    /// <summary>In front of the method table: how many series there are, and before that each series; of arrays of structs a negative number, one
    /// start, and the items.</summary>
    private static void ReadReferences(
        FrozenMemory memory, ulong methodTable, List<(long Bytes, long Start)> series, List<(int References, int SkipBytes)> items, ref long itemsStart)
    {
        long count = (long)Word(memory, methodTable - 8);
        if (count is 0 or > MaxSeries or < -MaxSeries)
        {
            throw new TornCopyException($"the type at 0x{methodTable:x} has {count} series of references");
        }

        if (count > 0)
        {
            for (long i = 1; i <= count; i++)
            {
                ulong at = methodTable - 8 - (16 * (ulong)i);
                series.Add(((long)Word(memory, at), (long)Word(memory, at + 8)));
            }

            return;
        }

        itemsStart = (long)Word(memory, methodTable - 16);
        for (long i = 0; i < -count; i++)
        {
            ulong item = Word(memory, methodTable - 24 - (8 * (ulong)i));
            items.Add(((int)(uint)item, (int)(item >> 32)));
        }
    }

    private static ulong Word(FrozenMemory memory, ulong address) =>
        memory.TryReadWord(address, out ulong word) ? word : throw new TornCopyException($"no type is at 0x{address:x}");

    /// <summary>
    /// Where a method table refers to its module: the word that two types of this assembly share, and that no type of another assembly
    /// has. Offset 0: there is none.
    /// </summary>
    private static unsafe (int Offset, ulong Module) FindModule()
    {
        ulong* own = (ulong*)typeof(MethodTables).TypeHandle.Value;
        ulong* alsoOwn = (ulong*)typeof(ObjectLayout).TypeHandle.Value;
        ulong*[] others = [(ulong*)typeof(string).TypeHandle.Value, (ulong*)typeof(Uri).TypeHandle.Value, (ulong*)typeof(object[]).TypeHandle.Value];
        for (int i = 1; i < HeadBytes / sizeof(ulong); i++)
        {
            bool isOthers = false;
            foreach (ulong* other in others)
            {
                isOthers |= other[i] == own[i];
            }

            if (own[i] == alsoOwn[i] && !isOthers)
            {
                return (i * sizeof(ulong), own[i]);
            }
        }

        return (0, 0);
    }
}
