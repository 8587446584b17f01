using NativeLeaks.Ledger;

namespace NativeLeaks.Capture;

/// <summary>
/// A scope that follows the asynchronous flow (ExecutionContext) in which it was opened: tasks, timers and threads that are
/// started inside allocate on its behalf. The engine stamps each block with an epoch of the scope that the thread runs in, which
/// this class keeps up to date on every thread that the flow passes.
/// </summary>
internal sealed class FlowScope
{
    // The handler runs whenever a thread enters or leaves the flow. Nothing in it may throw. The entry of a closed scope may
    // stand for another by now.
    private static readonly AsyncLocal<FlowScope?> s_current = new(
        static change => ShimLibrary.SetThreadScope(change.CurrentValue is { } scope ? scope.IsOpen ? scope._entry : ScopeEntry.Nobodys : 0));

    private readonly FlowScope? _parent;
    private readonly ScopeKind _kind;
    private readonly uint _entry;
    private readonly uint _tag;
    private readonly Lock _gate = new();
    private readonly HashSet<uint> _tags;
    private FlowScope? _handedUp;
    private int _closed;

    private FlowScope(ScopeKind kind, uint entry, uint tag, ulong firstSequence, FlowScope? parent)
    {
        _kind = kind;
        _entry = entry;
        _tag = tag;
        _parent = parent;
        _tags = [tag];
        FirstSequence = firstSequence;
    }

    /// <summary>Epochs from this sequence number on began after the scope was opened.</summary>
    public ulong FirstSequence { get; }

    /// <summary>Whether the calling flow runs in this scope or in one that was opened inside it.</summary>
    public bool IsCallersOwn => _kind == ScopeKind.Process || IsInside(Innermost(s_current.Value), this);

    private bool IsOpen => Volatile.Read(ref _closed) == 0;

    /// <summary>Opens a scope in the caller's flow; null when none can be opened any more (65,535 are open at once).</summary>
    public static FlowScope? Open(ScopeKind kind)
    {
        ScopeFlags flags = kind switch
        {
            ScopeKind.Ignored => ScopeFlags.Ignored,
            ScopeKind.Process => ScopeFlags.WholeProcess,
            _ => ScopeFlags.None,
        };
        FlowScope? parent = Innermost(s_current.Value);
        bool isRival = kind is ScopeKind.Flow or ScopeKind.Test && !Blames(parent);
        ulong begun;
        uint entry, tag;
        using (ScopeRivalry.Change())
        {
            begun = ShimEngine.Ledger!.Header.EpochsBegun;
            entry = ShimLibrary.OpenScope(flags, out tag);
            if (entry == 0)
            {
                return null;
            }

            if (isRival)
            {
                ScopeRivalry.Began(begun + 1);
            }
        }

        var scope = new FlowScope(kind, entry, tag, begun + 1, parent) { IsRival = isRival };
        if (kind != ScopeKind.Process)
        {
            scope.Enter();
        }

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

        if (_parent is { _kind: ScopeKind.Test } test)
        {
            test.TakeBack(this);
        }

        using (ScopeRivalry.Change())
        {
            ShimLibrary.CloseScope(_entry);
            if (IsRival)
            {
                ScopeRivalry.Ended();
            }
        }
    }

    /// <summary>The tags of this scope and of those opened inside it.</summary>
    public HashSet<uint> Tags()
    {
        lock (_gate)
        {
            return [.. _tags];
        }
    }

    /// <summary>Counts as one of several that could be blamed for what no flow made: it is in none of the others.</summary>
    private bool IsRival { get; init; }

    private void Enter()
    {
        for (FlowScope? outer = _parent; outer is not null; outer = outer._parent)
        {
            outer.Adopt(_tag);
        }

        if (_kind == ScopeKind.Flow && _parent is { _kind: ScopeKind.Test } test)
        {
            test.HandUp(this);
        }

        s_current.Value = this;
    }

    /// <summary>
    /// What an asynchronous method sets is gone from the flow when it returns. So a tracker that a test starts, in its set-up
    /// maybe, takes over the threads of the test's own scope as well.
    /// </summary>
    private void HandUp(FlowScope inner)
    {
        lock (_gate)
        {
            if (_handedUp is null && IsOpen)
            {
                _handedUp = inner;
                ShimLibrary.RetagScope(_entry, inner._tag);
            }
        }
    }

    private void TakeBack(FlowScope inner)
    {
        lock (_gate)
        {
            if (_handedUp == inner)
            {
                _handedUp = null;
                ShimLibrary.RetagScope(_entry, _tag);
            }
        }
    }

    private void Adopt(uint tag)
    {
        lock (_gate)
        {
            _tags.Add(tag);
        }
    }

    /// <summary>The open scope that a flow runs in, which carries this one.</summary>
    private static FlowScope? Innermost(FlowScope? carried)
    {
        while (carried is { IsOpen: false })
        {
            carried = carried._parent;
        }

        return carried is { _kind: ScopeKind.Test, _handedUp: { IsOpen: true } inner } ? inner : carried;
    }

    private static bool IsInside(FlowScope? inner, FlowScope outer)
    {
        while (inner is not null && inner != outer)
        {
            inner = inner._parent;
        }

        return inner is not null;
    }

    private static bool Blames(FlowScope? scope)
    {
        while (scope is { _kind: ScopeKind.Ignored } or { IsOpen: false })
        {
            scope = scope._parent;
        }

        return scope is not null;
    }
}

/// <summary>What a scope is for.</summary>
internal enum ScopeKind
{
    /// <summary>A tracker's.</summary>
    Flow,

    /// <summary>A tracker's that is about the whole process.</summary>
    Process,

    /// <summary>Around a test, opened by an adapter.</summary>
    Test,

    /// <summary>A region that nobody is blamed for.</summary>
    Ignored,
}
