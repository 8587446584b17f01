namespace NativeLeaks;

/// <summary>What an assertion does where native allocations cannot be recorded.</summary>
public enum UnavailableBehavior
{
    /// <summary>The assertion passes, so that a team on mixed machines can keep the same tests.</summary>
    Pass,

    /// <summary>The assertion throws <see cref="PlatformNotSupportedException"/>.</summary>
    Throw,
}

/// <summary>How a scope judges. Immutable; share one among tests.</summary>
public sealed record NativeLeakOptions
{
    /// <summary>The defaults.</summary>
    public static NativeLeakOptions Default { get; } = new();

    /// <summary>What <see cref="NativeLeakTracker.AssertNoLeaks"/> does on a platform without the engine.</summary>
    public UnavailableBehavior WhenUnavailable { get; init; } = UnavailableBehavior.Pass;
}
