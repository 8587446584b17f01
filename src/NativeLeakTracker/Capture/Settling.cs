using System.Diagnostics;

namespace NativeLeaks.Capture;

/// <summary>
/// Gives what is about to be released the time to be: collects and runs finalizers until nothing changes any more. Bounded in
/// rounds and in time, whatever finalizers do.
/// </summary>
internal static class Settling
{
    private const int MaxRounds = 20;

    // Threads that were told to stop release what they hold a moment later: no collection shows that.
    private const int Pauses = 3;
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(5);

    private static Thread? s_stuck;

    /// <summary>Settles for as long as the measured value changes.</summary>
    /// <param name="measure">What to look at.</param>
    /// <param name="events">While it stands still, so does what is measured; much cheaper than to measure.</param>
    /// <param name="isNothing">Whether a value cannot get any better.</param>
    /// <param name="timeout">The most that is spent.</param>
    /// <returns>The last value, and why it did not come to rest, for the report; null: it did.</returns>
    public static (T Last, string? Unsettled) Until<T, TEvents>(Func<T> measure, Func<TEvents> events, Func<T, bool> isNothing, TimeSpan timeout)
        where T : IEquatable<T>
        where TEvents : IEquatable<TEvents>
    {
        long begin = Stopwatch.GetTimestamp();
        T last = measure();
        bool mayRest = false;
        for (int round = 0; !isNothing(last); round++)
        {
            TimeSpan left = timeout - Stopwatch.GetElapsedTime(begin);
            if (round == MaxRounds || left <= TimeSpan.Zero)
            {
                return (last, $"blocks were still being released when the time to settle was over ({timeout.TotalSeconds:0.###} s); some may be called leaks too early");
            }

            if (!TryCollect(left))
            {
                return (last, $"finalizers did not finish within {timeout.TotalSeconds:0.###} s; what they would release may be called a leak");
            }

            TEvents before = events();
            T now = measure();
            for (int pause = 0; pause < Pauses && now.Equals(last) && mayRest && !isNothing(now); pause++)
            {
                Thread.Sleep(s_pause);
                TEvents then = events();
                if (!then.Equals(before))
                {
                    (before, now) = (then, measure());
                }
            }

            // A first collection may only make finalizers ready that a second one's objects wait for.
            if (now.Equals(last) && mayRest)
            {
                break;
            }

            mayRest = true;
            last = now;
        }

        return (last, null);
    }

    /// <summary>Collects and waits for the finalizers; false: they did not finish in time, or those of an earlier call still run.</summary>
    private static bool TryCollect(TimeSpan timeout)
    {
        if (Volatile.Read(ref s_stuck) is { } stuck)
        {
            if (!stuck.Join(timeout))
            {
                return false;
            }

            Volatile.Write(ref s_stuck, null);
        }

        // On a thread of its own: WaitForPendingFinalizers knows no timeout.
        var thread = new Thread(static () =>
        {
            using QuietRegion quiet = QuietRegion.Enter();
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Forced, blocking: true);
            GC.WaitForPendingFinalizers();
        })
        {
            IsBackground = true,
            Name = "NativeLeakTracker",
        };
        thread.UnsafeStart();
        if (thread.Join(timeout))
        {
            return true;
        }

        Volatile.Write(ref s_stuck, thread);
        return false;
    }
}
