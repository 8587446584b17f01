namespace NativeLeaks.Symbols.CallSites;

/// <summary>Where execution goes after an instruction. What the target of an instruction means depends on it.</summary>
internal enum InstructionFlow
{
    /// <summary>To the next instruction.</summary>
    Next,

    /// <summary>Into a function and back; target: its address.</summary>
    Call,

    /// <summary>Into a function and back; target: where in memory its address is kept, if the code itself tells; else 0.</summary>
    IndirectCall,

    /// <summary>Away; target: to where.</summary>
    Jump,

    /// <summary>Away or on; target: to where if away.</summary>
    ConditionalJump,

    /// <summary>Away; target: where in memory the address is kept, if the code itself tells; else 0.</summary>
    IndirectJump,

    /// <summary>Away, by a table that a switch was compiled to: it stays in its function.</summary>
    TableJump,

    /// <summary>Back to the caller.</summary>
    Return,

    /// <summary>No instruction: data in the code, or decoding has lost its step.</summary>
    Invalid,
}
