namespace NativeLeaks.Heap.Managed;

/// <summary>How a field, or an element of an array, may lead on to something else.</summary>
internal enum FieldKind
{
    /// <summary>Data that is no address: a byte, a double, a boolean.</summary>
    Plain,

    /// <summary>A reference to an object.</summary>
    Reference,

    /// <summary>An address, or a number that is large enough to be one: nint, a pointer, a function pointer, long.</summary>
    Address,

    /// <summary>A structure whose fields cannot be told.</summary>
    Unknown,
}

/// <summary>What a part of the heap is for.</summary>
internal enum SegmentKind
{
    Ordinary,
    Large,
    Pinned,
    Frozen,
}

/// <summary>What a handle does for its object; the numbers are the runtime's.</summary>
internal enum HandleKind
{
    WeakShort = 0,
    WeakLong = 1,
    Strong = 2,
    Pinned = 3,
    RefCounted = 5,
    Dependent = 6,
    AsyncPinned = 7,
    SizedReference = 8,
}
