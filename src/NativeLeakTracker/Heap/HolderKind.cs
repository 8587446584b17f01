namespace NativeLeaks.Heap;

/// <summary>What holds a block, weakest first. What several hold is held by the strongest.</summary>
internal enum HolderKind
{
    /// <summary>Nothing points to it or into it.</summary>
    None,

    /// <summary>Memory from before the recording, whose words may be stale, and that no static field or global of the program holds.</summary>
    DoubtfulMemory,

    /// <summary>A word of a stack, or a register, or an object that another thread's stack refers to: much there is no longer meant.</summary>
    StackWord,

    /// <summary>An object that the stack of the asking thread refers to.</summary>
    Stack,

    /// <summary>An object that waits for its finalizer.</summary>
    FinalizerQueue,

    /// <summary>An object that a handle keeps.</summary>
    Handle,

    /// <summary>Thread storage: a thread static, or a native library's.</summary>
    ThreadStorage,

    /// <summary>An object that only the runner of tests keeps, such as a test fixture: the tests' own, whose blocks are to be released.</summary>
    TestRunner,

    /// <summary>A block that is older than the scope, or than the recording, whatever holds that.</summary>
    OlderMemory,

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
        < HolderKind.OlderMemory => "undisposed",
        _ => "kept",
    };

    /// <summary>Of <c>undisposed</c>: by what.</summary>
    public static string? How(this HolderKind kind) => kind switch
    {
        HolderKind.Stack or HolderKind.StackWord => "stack",
        HolderKind.FinalizerQueue => "finalizer",
        HolderKind.Handle => "handle",
        HolderKind.ThreadStorage => "thread",
        _ => null,
    };
}
