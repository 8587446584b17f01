namespace NativeLeaks.Heap.Managed;

/// <summary>What a handle does for its object.</summary>
internal enum HandleKind
{
    /// <summary>Nothing: it knows the object as long as something else keeps it.</summary>
    Weak,

    /// <summary>Keeps it.</summary>
    Strong,

    /// <summary>Keeps it where it is.</summary>
    Pinned,

    /// <summary>Keeps another object for as long as the first lives.</summary>
    Dependent,
}
