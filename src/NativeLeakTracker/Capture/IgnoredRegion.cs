namespace NativeLeaks.Capture;

/// <summary>What <see cref="NativeLeakTracker.Ignore"/> hands out.</summary>
internal sealed class IgnoredRegion : IDisposable
{
    private readonly FlowScope? _scope;

    /// <summary>Where nothing is recorded, or no further scope can be opened, there is nothing to ignore with.</summary>
    public IgnoredRegion()
    {
        if (ShimEngine.IsRecording)
        {
            _scope = FlowScope.Open(ScopeKind.Ignored);
        }
    }

    public void Dispose() => _scope?.Close();
}
