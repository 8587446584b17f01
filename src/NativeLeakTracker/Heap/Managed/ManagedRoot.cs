namespace NativeLeaks.Heap.Managed;

/// <summary>What makes an object live.</summary>
internal enum RootKind
{
    /// <summary>A static field.</summary>
    Static,

    /// <summary>A thread's value of a static field that has one for each thread, or a word of native thread storage.</summary>
    ThreadStatic,

    /// <summary>A GCHandle, or a reference of the runtime's own.</summary>
    StrongHandle,

    /// <summary>A GCHandle that keeps its object in its place.</summary>
    PinnedHandle,

    /// <summary>An overlapped operation of the operating system.</summary>
    AsyncPinned,

    /// <summary>A handle that counts references from outside.</summary>
    RefCounted,

    /// <summary>Waiting for its finalizer to be run.</summary>
    FinalizerQueue,

    /// <summary>A word on a stack, or a register.</summary>
    Stack,
}

/// <summary>A reference to an object that does not stem from another object.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Object">The address of the object.</param>
/// <param name="Slot">Where the reference lies; 0 for a register.</param>
/// <param name="ThreadId">Of the thread that it belongs to, as the kernel numbers threads; else 0.</param>
internal readonly record struct ManagedRoot(RootKind Kind, ulong Object, ulong Slot, int ThreadId = 0);

/// <summary>A word in a live object that may point to native memory.</summary>
/// <param name="Index">Of the object, in the order in which objects were found live.</param>
/// <param name="Offset">Of the word, from the object's first byte.</param>
/// <param name="Pointer">Its value.</param>
/// <param name="IsFrameworks">Whether it is an object of the framework's own, or a container that such an object, or a static field, has.</param>
internal readonly record struct ManagedHolder(int Index, long Offset, ulong Pointer, bool IsFrameworks = false);
