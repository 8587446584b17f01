namespace NativeLeaks.Heap.Managed;

/// <summary>What a field or an element is, as far as it matters to who holds what.</summary>
internal enum FieldKind
{
    /// <summary>A number that is no pointer, or part of one: characters, bytes, floating point.</summary>
    Data,

    /// <summary>A reference to an object.</summary>
    Reference,

    /// <summary>As wide as a pointer: <c>nint</c>, <c>nuint</c>, <c>void*</c>, a function pointer, <c>long</c>, <c>ulong</c>.</summary>
    Pointer,
}
