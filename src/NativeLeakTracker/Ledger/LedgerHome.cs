namespace NativeLeaks.Ledger;

/// <summary>Where a ledger's bytes are: in this process's memory, or in a file that another process writes or wrote.</summary>
internal abstract class LedgerHome
{
    public abstract ref readonly LedgerHeader Header { get; }

    /// <summary>Whether tables are seen as they change; otherwise they are copies, each of one moment.</summary>
    public abstract bool IsInPlace { get; }

    /// <summary>The entries of a table that were handed out. A few at the end that were never written may be missing.</summary>
    public abstract ReadOnlySpan<T> Table<T>(TableId id)
        where T : unmanaged;

    /// <summary>For one pass over the live words.</summary>
    public abstract LiveWords OpenWords();

    /// <summary>Copies are made anew when they are asked for next: what was read since may refer to entries that they lack.</summary>
    public virtual void Refresh()
    {
    }
}
