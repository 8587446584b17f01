using System.ComponentModel;

namespace NativeLeaks.Adapters;

/// <summary>
/// The options of <see cref="NativeLeakOptions"/> that an attribute can carry. The attributes of the test frameworks derive from
/// it; what they leave out (a filter is code) needs a tracker in the test itself.
/// </summary>
[EditorBrowsable(EditorBrowsableState.Advanced)]
public abstract class LeakSettingsAttribute : Attribute
{
    // Attributes cannot carry null.
    private const long NoLimit = -1;

    /// <summary>Whose allocations count: those of the test's own flow, or everybody's.</summary>
    public NativeLeakScope Scope { get; set; } = NativeLeakScope.Flow;

    /// <summary>How many blocks of one stack a test may leave; negative: this limit allows nothing.</summary>
    public long MaxBlocksPerStack { get; set; } = NoLimit;

    /// <summary>How many bytes of one stack a test may leave; negative: this limit allows nothing.</summary>
    public long MaxBytesPerStack { get; set; } = NoLimit;

    /// <summary>Blocks of fewer bytes are not judged.</summary>
    public long MinBlockBytes { get; set; }

    /// <summary>Patterns: only stacks whose owner matches one are judged; empty: all.</summary>
    public string[] Owners { get; set; } = [];

    /// <summary>Patterns: only stacks whose allocator matches one are judged; empty: all.</summary>
    public string[] Allocators { get; set; } = [];

    /// <summary>Patterns: only stacks with a method that matches one are judged; empty: all.</summary>
    public string[] Methods { get; set; } = [];

    /// <summary>Rules in LeakSanitizer's syntax: <c>leak:pattern</c>.</summary>
    public string[] Suppressions { get; set; } = [];

    /// <summary>Paths of suppression files.</summary>
    public string[] SuppressionFiles { get; set; } = [];

    /// <summary>Whether releases are checked as well.</summary>
    public bool CheckPairing { get; set; } = true;

    /// <summary>
    /// What becomes of a test that passes where native allocations cannot be recorded: <see cref="UnavailableBehavior.Pass"/> has the
    /// framework show it as skipped or inconclusive, with the reason; <see cref="UnavailableBehavior.Throw"/> fails it.
    /// </summary>
    public UnavailableBehavior WhenUnavailable { get; set; } = UnavailableBehavior.Pass;

    /// <summary>The same as options of a tracker.</summary>
    public NativeLeakOptions ToOptions() => new()
    {
        Scope = Scope,
        MaxBlocksPerStack = MaxBlocksPerStack < 0 ? null : MaxBlocksPerStack,
        MaxBytesPerStack = MaxBytesPerStack < 0 ? null : MaxBytesPerStack,
        MinBlockBytes = MinBlockBytes,
        Owners = Owners,
        Allocators = Allocators,
        Methods = Methods,
        Suppressions = Suppressions,
        SuppressionFiles = SuppressionFiles,
        CheckPairing = CheckPairing,
        WhenUnavailable = WhenUnavailable,
    };
}
