namespace NativeLeaks.Heap;

/// <summary>What holds a block, weakest first. What several hold is held by the strongest.</summary>
internal enum HolderKind
{
    /// <summary>Nothing points to it or into it.</summary>
    None,

    /// <summary>Memory from before the scope, whose words may be stale.</summary>
    OlderMemory,

    /// <summary>A word of a thread's stack, or a register.</summary>
    Stack,

    /// <summary>An object that waits for its finalizer.</summary>
    FinalizerQueue,

    /// <summary>An object that a handle keeps.</summary>
    Handle,

    /// <summary>Thread storage: a thread static, or a native library's.</summary>
    ThreadStorage,

    /// <summary>A native library's global variable.</summary>
    Global,

    /// <summary>A static field.</summary>
    Static,
}

internal static class HolderKinds
{
    /// <summary>The word of the verdict contract (docs/verdicts.md).</summary>
    public static string Verdict(this HolderKind kind) => kind switch
    {
        HolderKind.None => "lost",
        < HolderKind.Global => "undisposed",
        _ => "kept",
    };

    /// <summary>Of <c>undisposed</c>: by what.</summary>
    public static string? How(this HolderKind kind) => kind switch
    {
        HolderKind.Stack => "stack",
        HolderKind.FinalizerQueue => "finalizer",
        HolderKind.Handle => "handle",
        HolderKind.ThreadStorage => "thread",
        _ => null,
    };
}
