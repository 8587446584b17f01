using System.ComponentModel;
using NativeLeaks.Capture;

namespace NativeLeaks.Adapters;

/// <summary>
/// What the adapter of a test framework builds on: a scope around one test with its set-up and tear-down. A tracker that the
/// test starts in an asynchronous set-up covers the test as well, which the framework's own flow would not allow.
/// </summary>
/// <remarks>Open it on the thread and in the flow that then runs the test.</remarks>
[EditorBrowsable(EditorBrowsableState.Advanced)]
public sealed class TestScope : IDisposable
{
    private readonly NativeLeakTracker _tracker;

    private TestScope(NativeLeakTracker tracker) => _tracker = tracker;

    /// <summary>Why native allocations are not recorded on this platform; null where they are.</summary>
    public string? Unavailable => _tracker.IsActive ? null : Capture.Unavailable.Reason;

    /// <summary>Opens the scope.</summary>
    /// <exception cref="InvalidOperationException">The engine does not start on a platform that it supports.</exception>
    public static TestScope Open(NativeLeakOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return new TestScope(NativeLeakTracker.Start(options, options.Scope == NativeLeakScope.Process ? ScopeKind.Process : ScopeKind.Test));
    }


    /// <summary>Judges as <see cref="NativeLeakTracker.AssertNoLeaks"/> does; null: the test passes.</summary>
    public NativeLeakException? Judge()
    {
        try
        {
            _tracker.AssertNoLeaks();
            return null;
        }
        catch (NativeLeakException leak)
        {
            return leak;
        }
    }

    /// <summary>Closes the scope. Never throws.</summary>
    public void Dispose() => _tracker.Dispose();
}
