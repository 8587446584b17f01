namespace NativeLeaks.Heap.Managed;

/// <summary>Which bytes of an object, or of an array's element, may be the address of native memory, by the types of its fields.</summary>
internal sealed class AddressFields
{
    /// <summary>No word of an object of this type is one.</summary>
    public static readonly AddressFields None = new([], 0);

    /// <summary>Nobody has asked yet.</summary>
    public static readonly AddressFields NotAsked = new([], 0);

    private readonly (int Start, int End)[] _places;
    private readonly long _elementBytes;

    private AddressFields((int Start, int End)[] places, long elementBytes)
    {
        _places = places;
        _elementBytes = elementBytes;
    }

    /// <summary>Where each of them begins; in an element, if it is an array.</summary>
    public IEnumerable<int> Starts => _places.Select(static place => place.Start);

    /// <param name="fields">As the runtime's reader tells them.</param>
    /// <param name="elementBytes">Of an array; else 0.</param>
    public static AddressFields Of(IEnumerable<(int Offset, int Bytes, int Kind, string Name)> fields, uint elementBytes)
    {
        (int, int)[] places =
        [
            .. fields.Where(static f => (FieldKind)f.Kind is FieldKind.Address or FieldKind.Unknown && f.Offset >= 0 && f.Bytes > 0)
                .Select(static f => (f.Offset, f.Offset + f.Bytes)),
        ];
        return places.Length == 0 ? None : new AddressFields(places, elementBytes);
    }

    /// <summary>Whether the word at an offset may be one.</summary>
    /// <param name="offset">From the first byte of the object; of an array, from that of the first element.</param>
    public bool Has(long offset)
    {
        long place = _elementBytes > 0 ? offset % _elementBytes : offset;
        foreach ((int start, int end) in _places)
        {
            if (place >= start && place < end)
            {
                return true;
            }
        }

        return false;
    }
}
