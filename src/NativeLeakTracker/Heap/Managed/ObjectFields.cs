using System.Globalization;

namespace NativeLeaks.Heap.Managed;

/// <summary>A field, or an element's.</summary>
/// <param name="Offset">In the object, or in the element.</param>
/// <param name="Bytes">Its length.</param>
/// <param name="Kind">What it is.</param>
/// <param name="Name">As the compiler gave it, through structures with dots; empty: the element itself.</param>
internal readonly record struct ObjectField(int Offset, int Bytes, FieldKind Kind, string Name);

/// <summary>Reads objects by the names of their fields. Remembers what each type has. Not thread-safe.</summary>
internal sealed unsafe class ObjectFields(HeapImage image, MethodTables tables, RuntimeStructures structures)
{
    private const int TextOffset = sizeof(ulong) + sizeof(int);

    private readonly Dictionary<ulong, ObjectField[]> _fields = [];
    private readonly Dictionary<ulong, string> _names = [];

    /// <summary>The type's name as the runtime spells it.</summary>
    public string RawNameOf(ulong address)
    {
        ulong type = TypeOf(address);
        if (!_names.TryGetValue(type, out string? name))
        {
            _names[type] = name = structures.Ask(() => structures.RawTypeName(type));
        }

        return name;
    }

    /// <summary>The type's name as C# writes it, without its namespace.</summary>
    public string NameOf(ulong address)
    {
        ulong type = TypeOf(address);
        return structures.Ask(() => structures.TypeName(type));
    }

    /// <summary>The method table's address. The runtime's reader is only asked about those that were checked: it trusts what it is given.</summary>
    /// <exception cref="TornCopyException">It is no object.</exception>
    public ulong TypeOf(ulong address) => image.TryReadWord(address, out ulong type) ? tables.At(type).Address : throw new TornCopyException("What should be an object is none.");

    /// <summary>Whether it is an array or a string; then which element an offset lies in, and where in that.</summary>
    public bool TryFindElement(ulong address, long offset, out long index, out int place)
    {
        ref MethodTable table = ref tables.At(TypeOf(address));
        long first = table.BaseBytes - sizeof(ulong);
        bool isElement = table.ComponentBytes > 0 && offset >= first;
        index = isElement ? (offset - first) / table.ComponentBytes : 0;
        place = isElement ? (int)((offset - first) % table.ComponentBytes) : 0;
        return isElement;
    }

    /// <summary>Where an element begins, from the array's first byte.</summary>
    public long OffsetOfElement(ulong address, long index)
    {
        ref MethodTable table = ref tables.At(TypeOf(address));
        return table.BaseBytes - sizeof(ulong) + (index * table.ComponentBytes);
    }

    /// <summary>The fields of an object, or of each element of an array.</summary>
    public ObjectField[] Of(ulong address)
    {
        ulong type = TypeOf(address);
        if (!_fields.TryGetValue(type, out ObjectField[]? fields))
        {
            _fields[type] = fields =
            [
                .. structures.Ask(() => structures.Fields(address, type)).Select(static f => new ObjectField(f.Offset, f.Bytes, (FieldKind)f.Kind, f.Name)),
            ];
        }

        return fields;
    }

    /// <summary>The field at a place in the object, or in an element; without a name when there is none.</summary>
    public ObjectField At(ulong address, long place) =>
        Of(address).FirstOrDefault(f => place >= f.Offset && place < f.Offset + Math.Max(f.Bytes, 1), new ObjectField(0, 0, FieldKind.Unknown, ""));

    /// <summary>The word of a field; 0 when there is none of that name.</summary>
    public ulong Word(ulong address, string name) =>
        Of(address).FirstOrDefault(f => f.Name == name) is { Bytes: > 0 } field && image.TryReadWord(address + (uint)field.Offset, out ulong word) ? word : 0;

    /// <summary>Where in an object a reference to another stands; -1: nowhere.</summary>
    public long OffsetOf(ulong address, ulong target)
    {
        int segment = image.SegmentAt(address);
        ulong bytes = segment < 0 ? 0 : BytesOf(segment, address);
        byte* start = segment < 0 ? null : image.At(segment, address);
        for (ulong offset = sizeof(ulong); offset + sizeof(ulong) < bytes; offset += sizeof(ulong))
        {
            if (*(ulong*)(start + offset) == target)
            {
                return (long)offset;
            }
        }

        return -1;
    }

    /// <summary>The beginning of a string, in quotes; null: it is none.</summary>
    public string? TextOf(ulong address, int maxLength)
    {
        int segment = image.SegmentAt(address);
        if (segment < 0 || (address & 7) != 0 || TypeOf(address) != tables.String)
        {
            return null;
        }

        ulong bytes = BytesOf(segment, address);
        byte* start = image.At(segment, address);
        int length = (int)Math.Min(*(uint*)(start + sizeof(ulong)), (bytes - TextOffset) / sizeof(char));
        var text = new string((char*)(start + TextOffset), 0, Math.Min(length, maxLength));
        return length > maxLength ? $"\"{text}...\"" : $"\"{text}\"";
    }

    /// <summary>A key as the source would have it: a text, a number, or the name of its type. Null: there is no such field.</summary>
    public string? KeyText(ulong address, long start, string name, int maxLength)
    {
        ObjectField key = Of(address).FirstOrDefault(f => f.Name == name);
        ulong place = address + (ulong)(start + key.Offset);
        if (key.Bytes is 0 or > sizeof(ulong) || !image.TryReadWord(place & ~7UL, out ulong word))
        {
            return null;
        }

        word >>= (int)(place & 7) * 8;
        return key.Kind == FieldKind.Reference
            ? TextOf(word, maxLength) ?? (image.SegmentAt(word) >= 0 ? NameOf(word) : null)
            : ((long)(word << (64 - (key.Bytes * 8))) >> (64 - (key.Bytes * 8))).ToString(CultureInfo.InvariantCulture);
    }

    private ulong BytesOf(int segment, ulong address)
    {
        ref MethodTable table = ref tables.At(TypeOf(address));
        ulong components = table.HasComponents && image.TryReadWord(address + sizeof(ulong), out ulong word) ? (uint)word : 0;
        return Math.Min(table.BaseBytes + (table.ComponentBytes * components), image.EndOf(segment) - address);
    }
}
