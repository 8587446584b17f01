namespace NativeLeaks;

/// <summary>What an assertion does where native allocations cannot be recorded.</summary>
public enum UnavailableBehavior
{
    /// <summary>The assertion passes, so that a team on mixed machines can keep the same tests.</summary>
    Pass,

    /// <summary>The assertion throws <see cref="PlatformNotSupportedException"/>.</summary>
    Throw,
}

/// <summary>Whose allocations a tracker is about.</summary>
public enum NativeLeakScope
{
    /// <summary>
    /// Those of the flow in which it was started: the calling method, what it calls, and the tasks, timers and threads that
    /// are started there. Tests that run in parallel do not blame each other.
    /// </summary>
    Flow,

    /// <summary>Everybody's in the process, other flows and native threads included.</summary>
    Process,
}

/// <summary>What a tracker covers, and how it judges. Immutable; share one among tests.</summary>
/// <remarks>Patterns are those of suppressions: text that stands anywhere, <c>*</c> for any text, <c>^</c> and <c>$</c> for
/// the ends. Case counts.</remarks>
public sealed record NativeLeakOptions
{
    /// <summary>The defaults.</summary>
    public static NativeLeakOptions Default { get; } = new();

    /// <summary>Whose allocations count.</summary>
    public NativeLeakScope Scope { get; init; } = NativeLeakScope.Flow;

    /// <summary>
    /// How many blocks of one stack may be outstanding without being called a leak; null: this limit allows nothing. With
    /// <see cref="MaxBytesPerStack"/> given too, a stack has to keep both.
    /// </summary>
    public long? MaxBlocksPerStack { get; init; }

    /// <summary>How many bytes of one stack may be outstanding without being called a leak; null: this limit allows
    /// nothing.</summary>
    public long? MaxBytesPerStack { get; init; }

    /// <summary>Blocks of fewer bytes are not judged.</summary>
    public long MinBlockBytes { get; init; }

    /// <summary>Patterns: only stacks whose owner (<see cref="LeakGroup.Owner"/>) matches one are judged; empty: all.</summary>
    public IReadOnlyList<string> Owners { get; init; } = [];

    /// <summary>Patterns: only stacks whose allocator (<see cref="LeakGroup.Allocator"/>) matches one are judged; empty:
    /// all.</summary>
    public IReadOnlyList<string> Allocators { get; init; } = [];

    /// <summary>Patterns: only stacks with a method that matches one are judged; empty: all.</summary>
    public IReadOnlyList<string> Methods { get; init; } = [];

    /// <summary>
    /// Asked of each stack that would be called a leak; false sets it aside. Called on the thread that judges, its own
    /// allocations unrecorded. What it throws is thrown by the assertion.
    /// </summary>
    public Func<LeakGroup, bool>? Filter { get; init; }

    /// <summary>Rules in LeakSanitizer's syntax: <c>leak:pattern</c>. Docs/suppressions.md has the syntax.</summary>
    public IReadOnlyList<string> Suppressions { get; init; } = [];

    /// <summary>Paths of suppression files; those of <c>NATIVELEAKS_SUPPRESSIONS</c> are read as well.</summary>
    public IReadOnlyList<string> SuppressionFiles { get; init; } = [];

    /// <summary>
    /// How long judging may wait for finalizers, and for releases that other threads are about to make. Spent only if
    /// something is outstanding that keeps changing.
    /// </summary>
    public TimeSpan SettleTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>
    /// Whether releases are checked: of what was released before, of what is no block, by a function of another family. While a
    /// tracker that checks is open, a release that is certainly wrong is reported and not passed on to the C library, which would end
    /// the process or damage its heap; that holds for the whole process. Each release then costs a walk of its stack.
    /// </summary>
    public bool CheckPairing { get; init; } = true;

    /// <summary>
    /// Whether blocks that are kept (<see cref="NativeLeakReport.Kept"/>) are leaks, too: held by a static field, a library's global
    /// variable, or something older than the scope. A cache that is filled in the test then fails it.
    /// </summary>
    public bool Strict { get; init; }

    /// <summary>What <see cref="NativeLeakTracker.AssertNoLeaks"/> does on a platform without the engine.</summary>
    public UnavailableBehavior WhenUnavailable { get; init; } = UnavailableBehavior.Pass;

    /// <summary>Says what makes no sense, so that <see cref="NativeLeakTracker.Start(NativeLeakOptions)"/> can, and not a test's end.</summary>
    /// <exception cref="ArgumentException">The message names the option.</exception>
    internal void Validate()
    {
        NotNegative(MaxBlocksPerStack ?? 0, nameof(MaxBlocksPerStack));
        NotNegative(MaxBytesPerStack ?? 0, nameof(MaxBytesPerStack));
        NotNegative(MinBlockBytes, nameof(MinBlockBytes));
        NotNegative(SettleTimeout.Ticks, nameof(SettleTimeout));
        Patterns(Owners, nameof(Owners));
        Patterns(Allocators, nameof(Allocators));
        Patterns(Methods, nameof(Methods));
        Texts(Suppressions, nameof(Suppressions));
        Texts(SuppressionFiles, nameof(SuppressionFiles));
        Defined(Scope, nameof(Scope));
        Defined(WhenUnavailable, nameof(WhenUnavailable));
    }

    private static void NotNegative(long value, string option) =>
        Demand(value >= 0, option, "is negative; give 0 or more.");

    private static void Defined<T>(T value, string option)
        where T : struct, Enum => Demand(Enum.IsDefined(value), option, $"is {value}, which there is not.");

    private static void Texts(IReadOnlyList<string>? texts, string option)
    {
        Demand(texts is not null, option, "is null; an empty list means none.");
        Demand(!texts!.Any(string.IsNullOrWhiteSpace), option, "has an empty entry.");
    }

    private static void Patterns(IReadOnlyList<string>? patterns, string option)
    {
        Texts(patterns, option);
        foreach (string pattern in patterns!)
        {
            try
            {
                _ = new Analysis.Pattern(pattern);
            }
            catch (FormatException e)
            {
                throw new ArgumentException($"{nameof(NativeLeakOptions)}.{option}: '{pattern}': {e.Message}");
            }
        }
    }

    private static void Demand(bool holds, string option, string complaint)
    {
        if (!holds)
        {
            throw new ArgumentException($"{nameof(NativeLeakOptions)}.{option} {complaint}");
        }
    }
}
