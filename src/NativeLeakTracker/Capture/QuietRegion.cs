namespace NativeLeaks.Capture;

/// <summary>
/// While held, the calling thread's allocations are not recorded: the tracker's own work must not appear in what it reports.
/// Belongs to the thread; never held across an await. A nanosecond's work.
/// </summary>
internal readonly ref struct QuietRegion
{
    private readonly bool _entered;

    private QuietRegion(bool entered) => _entered = entered;

    public static QuietRegion Enter()
    {
        bool installed = ShimEngine.Ledger is not null;
        if (installed)
        {
            _ = ShimLibrary.SetThreadQuiet(1);
        }

        return new QuietRegion(installed);
    }

    public void Dispose()
    {
        if (_entered)
        {
            _ = ShimLibrary.SetThreadQuiet(0);
        }
    }
}
