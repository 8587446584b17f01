namespace NativeLeaks.Capture;

/// <summary>
/// A scope that follows the asynchronous flow (ExecutionContext) in which it was opened: tasks, timers and threads that are
/// started inside allocate on its behalf. The engine stamps each block with the scope's epoch, which this class keeps
/// up to date on every thread that the flow passes.
/// </summary>
internal sealed class FlowScope
{
    // The handler runs whenever a thread enters or leaves the flow. Nothing in it may throw.
    private static readonly AsyncLocal<FlowScope?> s_current = new(
        static change => ShimLibrary.SetThreadScope(change.CurrentValue?.Epoch ?? 0));

    private static int s_openCount;

    private readonly FlowScope? _parent;
    private readonly Lock _gate = new();
    private readonly HashSet<uint> _epochs;
    private int _closed;

    private FlowScope(uint epoch, FlowScope? parent)
    {
        Epoch = epoch;
        _parent = parent;
        _epochs = [epoch];
    }

    /// <summary>How many scopes are open in the process.</summary>
    public static int OpenCount => Volatile.Read(ref s_openCount);

    public uint Epoch { get; }

    /// <summary>What threads outside of every scope stamp their blocks with, from the opening of this one on.</summary>
    public uint FirstOutsideEpoch => Epoch - 1;

    private bool IsOpen => Volatile.Read(ref _closed) == 0;

    /// <summary>Opens a scope in the caller's flow; null when the process has used up its epochs.</summary>
    public static FlowScope? Open()
    {
        uint epoch = ShimLibrary.OpenScope();
        if (epoch == 0)
        {
            return null;
        }

        FlowScope? parent = s_current.Value;
        while (parent is { IsOpen: false })
        {
            parent = parent._parent;
        }

        var scope = new FlowScope(epoch, parent);
        for (FlowScope? outer = parent; outer is not null; outer = outer._parent)
        {
            outer.Adopt(epoch);
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
        ShimLibrary.CloseScope();
    }

    /// <summary>The epochs of this scope and of those opened inside it.</summary>
    public HashSet<uint> Epochs()
    {
        lock (_gate)
        {
            return [.. _epochs];
        }
    }

    private void Adopt(uint epoch)
    {
        lock (_gate)
        {
            _epochs.Add(epoch);
        }
    }
}
