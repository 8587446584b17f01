namespace NativeLeaks.Heap.Managed;

/// <summary>What a part of the managed heap is for.</summary>
internal enum SegmentKind
{
    /// <summary>Objects that move.</summary>
    Generations,

    /// <summary>Large objects.</summary>
    Large,

    /// <summary>Objects that never move.</summary>
    Pinned,

    /// <summary>Objects outside of the collected heap, which live for ever.</summary>
    Frozen,
}
