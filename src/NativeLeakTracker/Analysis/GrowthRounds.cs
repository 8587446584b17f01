namespace NativeLeaks.Analysis;

/// <summary>How often the body of an assertion about growth runs.</summary>
internal readonly record struct GrowthRounds
{
    /// <exception cref="ArgumentOutOfRangeException">Fewer than two rounds show no growth; there is no negative warm-up.</exception>
    public GrowthRounds(int rounds, int warmUp)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(rounds, 2);
        ArgumentOutOfRangeException.ThrowIfNegative(warmUp);
        (Measured, WarmUp) = (rounds, Math.Max(warmUp, 1));
    }

    public int Measured { get; }

    /// <summary>At least one: growth is seen against a state, and the state before any round lacks all that is made once.</summary>
    public int WarmUp { get; }

    public int All => WarmUp + Measured;

    /// <summary>Whether the state after a round, counted from 0, is looked at.</summary>
    public bool IsNoted(int round) => round >= WarmUp - 1;
}
