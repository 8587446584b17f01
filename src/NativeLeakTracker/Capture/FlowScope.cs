namespace NativeLeaks.Capture;

/// <summary>
/// A scope that follows the asynchronous flow (ExecutionContext) in which it was opened: tasks, timers and threads that are
/// started inside allocate on its behalf. The engine stamps each block with an epoch of the scope that the thread runs in, which
/// this class keeps up to date on every thread that the flow passes.
/// </summary>
internal sealed class FlowScope
{
    // The handler runs whenever a thread enters or leaves the flow. Nothing in it may throw. The entry of a closed scope may
    // stand for another by now: its flow allocates on nobody's behalf.
    private static readonly AsyncLocal<FlowScope?> s_current = new(
        static change => ShimLibrary.SetThreadScope(change.CurrentValue is { IsOpen: true } scope ? scope._entry : 0));

    private static int s_openCount;

    private readonly FlowScope? _parent;
    private readonly uint _entry;
    private readonly Lock _gate = new();
    private readonly HashSet<uint> _tags;
    private int _closed;

    private FlowScope(uint entry, uint tag, ulong firstSequence, FlowScope? parent)
    {
        _entry = entry;
        _parent = parent;
        _tags = [tag];
        FirstSequence = firstSequence;
    }

    /// <summary>How many scopes are open in the process.</summary>
    public static int OpenCount => Volatile.Read(ref s_openCount);

    /// <summary>Epochs from this sequence number on began after the scope was opened.</summary>
    public ulong FirstSequence { get; }

    private bool IsOpen => Volatile.Read(ref _closed) == 0;

    /// <summary>Opens a scope in the caller's flow; null when none can be opened any more (65,535 are open at once).</summary>
    public static FlowScope? Open()
    {
        ulong begun = ShimEngine.Ledger!.Header.EpochsBegun;
        uint entry = ShimLibrary.OpenScope(out uint tag);
        if (entry == 0)
        {
            return null;
        }

        FlowScope? parent = s_current.Value;
        while (parent is { IsOpen: false })
        {
            parent = parent._parent;
        }

        var scope = new FlowScope(entry, tag, begun + 1, parent);
        for (FlowScope? outer = parent; outer is not null; outer = outer._parent)
        {
            outer.Adopt(tag);
        }

        Interlocked.Increment(ref s_openCount);
        s_current.Value = scope;
        return scope;
    }

    /// <summary>
    /// Ends the scope. Flows that still carry it allocate on nobody's behalf from now on. Only the flow that closes it goes
    /// back to the outer scope.
    /// </summary>
    public void Close()
    {
        if (Interlocked.Exchange(ref _closed, 1) != 0)
        {
            return;
        }

        if (s_current.Value == this)
        {
            s_current.Value = _parent;
        }

        Interlocked.Decrement(ref s_openCount);
        ShimLibrary.CloseScope(_entry);
    }

    /// <summary>The tags of this scope and of those opened inside it.</summary>
    public HashSet<uint> Tags()
    {
        lock (_gate)
        {
            return [.. _tags];
        }
    }

    private void Adopt(uint tag)
    {
        lock (_gate)
        {
            _tags.Add(tag);
        }
    }
}
