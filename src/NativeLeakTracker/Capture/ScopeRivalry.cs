namespace NativeLeaks.Capture;

/// <summary>
/// Knows when several scopes were open of which none is inside another. What threads allocated then that no flow runs on is
/// blamed on none of them: any could be meant.
/// </summary>
internal static class ScopeRivalry
{
    // A scope that is open for hours sees as many periods as tests run beside it. The oldest are joined: that blames less.
    private const int MaxPeriods = 1024;

    private static readonly Lock s_gate = new();
    private static readonly List<(ulong First, ulong Last)> s_periods = [];
    private static int s_open;

    /// <summary>While held, no scope begins or ends. The order of epochs then is that of the calls here.</summary>
    public static Lock.Scope Change() => s_gate.EnterScope();

    /// <summary>A scope was opened whose first epoch has this number. Call it under <see cref="Change"/>.</summary>
    public static void Began(ulong firstSequence)
    {
        if (++s_open == 2)
        {
            s_periods.Add((firstSequence, ulong.MaxValue));
        }
    }

    /// <summary>A scope was closed. Call it under <see cref="Change"/>.</summary>
    public static void Ended()
    {
        if (--s_open == 1)
        {
            // The epoch that runs has blocks from before this moment and would get some from after it.
            s_periods[^1] = (s_periods[^1].First, ShimEngine.Ledger!.Header.EpochsBegun);
            ShimLibrary.AdvanceEpoch((uint)GC.CollectionCount(0));
            if (s_periods.Count > MaxPeriods)
            {
                s_periods[1] = (s_periods[0].First, s_periods[1].Last);
                s_periods.RemoveAt(0);
            }
        }
        else if (s_open == 0)
        {
            s_periods.Clear();
        }
    }

    /// <summary>The periods until now: numbers of their first and last epochs.</summary>
    public static (ulong First, ulong Last)[] Periods()
    {
        lock (s_gate)
        {
            return [.. s_periods];
        }
    }
}
