namespace NativeLeaks.Heap.Managed;

/// <summary>Why an object lives.</summary>
internal enum RootKind
{
    /// <summary>An array of static fields.</summary>
    Static,

    /// <summary>A handle that keeps it.</summary>
    StrongHandle,

    /// <summary>A handle that also keeps it where it is.</summary>
    PinnedHandle,

    /// <summary>Its finalizer is going to run.</summary>
    FinalizerQueue,

    /// <summary>A word of thread storage.</summary>
    ThreadStatic,

    /// <summary>A word of a stack, or a register.</summary>
    Stack,
}

/// <summary>An object that lives by itself.</summary>
/// <param name="Kind">Why.</param>
/// <param name="Object">Its address.</param>
/// <param name="Slot">Where it is referred to: a handle, a word of a stack; 0 where there is none.</param>
/// <param name="ThreadId">Of a stack, a register or thread storage; else 0.</param>
internal readonly record struct ManagedRoot(RootKind Kind, ulong Object, ulong Slot, int ThreadId = 0);

/// <summary>A word of a live object that points into native memory.</summary>
/// <param name="Entry">The object, as the heap numbers those that it reached.</param>
/// <param name="Offset">Of the word, from the object's start.</param>
/// <param name="Pointer">The word.</param>
internal readonly record struct ManagedHolder(int Entry, int Offset, ulong Pointer);
