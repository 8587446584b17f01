namespace NativeLeaks.Capture;

/// <summary>
/// Tells the engine of collections: an object that nothing refers to is finalized after each one and makes its successor. Its
/// finalizer runs on the finalizer thread, which the engine thereby comes to know.
/// </summary>
internal sealed class CollectionWatch
{
    private CollectionWatch()
    {
    }

    ~CollectionWatch()
    {
        if (Environment.HasShutdownStarted)
        {
            return;
        }

        using (QuietRegion.Enter())
        {
            ShimLibrary.MarkFinalizerThread();
            ShimLibrary.AdvanceEpoch((uint)GC.CollectionCount(0));
        }

        Begin();
    }

    public static void Begin() => _ = new CollectionWatch();
}
