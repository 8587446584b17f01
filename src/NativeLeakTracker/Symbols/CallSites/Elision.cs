using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Symbols.CallSites;

/// <summary>The function of the frame that was entered last: one in a library, or any function of some names.</summary>
internal readonly record struct CalleeFrame(ICodeImage? Image, ulong Address, IReadOnlySet<string> Names)
{
    private static readonly HashSet<string> s_noNames = [];

    /// <summary>The function that holds an address.</summary>
    public static CalleeFrame Function(ICodeImage image, ulong address) => new(image, address, s_noNames);

    /// <summary>The allocation function that made the record: the innermost frame of a stack is its caller.</summary>
    public static CalleeFrame AnyOf(IReadOnlySet<string> names) => new(null, 0, names);
}

/// <summary>A function that a call went through and that left no frame.</summary>
internal readonly record struct ElidedFrame(ICodeImage Image, FunctionExtent Function);

/// <summary>Why there are elided frames, or none.</summary>
internal enum ElisionStatus
{
    /// <summary>The call goes straight to the younger frame's function: nothing is missing.</summary>
    Direct,

    /// <summary>There is exactly one way, and these are the functions on it.</summary>
    Found,

    /// <summary>There is no call at this address.</summary>
    NoCall,

    /// <summary>The call goes through a pointer.</summary>
    IndirectCall,

    /// <summary>It goes to an import, or jumps to code, that is not known.</summary>
    UnknownTarget,

    /// <summary>No jumps lead from the call's target to the younger frame's function.</summary>
    NoRoute,

    /// <summary>There is more than one way.</summary>
    Ambiguous,

    /// <summary>A function on the way, or beside it, ends with a jump through a pointer: it could have gone anywhere.</summary>
    IndirectJump,

    /// <summary>A function that the call could have gone through cannot be decoded.</summary>
    Undecodable,

    /// <summary>More functions than are looked at.</summary>
    TooFar,
}

/// <summary>The functions that a call went through without leaving a frame, innermost first. They are inferred, not recorded.</summary>
internal readonly record struct Elision(ElisionStatus Status, IReadOnlyList<ElidedFrame> Frames)
{
    public static Elision Nothing(ElisionStatus status) => new(status, []);
}
