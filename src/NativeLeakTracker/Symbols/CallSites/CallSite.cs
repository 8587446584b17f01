namespace NativeLeaks.Symbols.CallSites;

/// <summary>What the code before a return address says.</summary>
internal enum CallEvidence
{
    /// <summary>There is no code at the address, or nothing that could decode it.</summary>
    Unknown,

    /// <summary>Decoding the function from its beginning finds no call that ends there: no return address.</summary>
    None,

    /// <summary>
    /// The bytes before it make a call, but where the function begins is not known: of addresses that are none, one in fifty
    /// passes this.
    /// </summary>
    Likely,

    /// <summary>A call ends there: the function was decoded from its beginning, or the call's target is the start of a function.</summary>
    Certain,
}

/// <summary>The call before a return address.</summary>
/// <param name="ReturnAddress">In the numbering of the image that was asked.</param>
/// <param name="Evidence">Whether it is one.</param>
/// <param name="Length">Bytes of the call instruction; 0 without one.</param>
/// <param name="Target">The function's address where the call names it; null through a pointer or an import.</param>
/// <param name="Import">The function's name where the dynamic linker chooses the address: through a PLT stub, or its slot.</param>
internal readonly record struct CallSite(ulong ReturnAddress, CallEvidence Evidence, int Length, ulong? Target, string? Import)
{
    public bool IsCall => Evidence is CallEvidence.Likely or CallEvidence.Certain;

    /// <summary>Through a pointer that only the running program knows.</summary>
    public bool IsIndirect => IsCall && Target is null && Import is null;

    public static CallSite Not(ulong returnAddress, CallEvidence evidence) => new(returnAddress, evidence, 0, null, null);
}
