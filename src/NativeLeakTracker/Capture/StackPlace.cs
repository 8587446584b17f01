using System.Globalization;
using System.Runtime.CompilerServices;

namespace NativeLeaks.Capture;

/// <summary>The frames of a thread at one moment, innermost first: where each goes on, and where its part of the stack begins.</summary>
internal sealed class StackPlace
{
    private const int MaxFrames = 256;
    private readonly ulong[] _addresses;
    private readonly ulong[] _starts;

    private StackPlace(int threadId, ulong[] addresses, ulong[] starts)
    {
        ThreadId = threadId;
        _addresses = addresses;
        _starts = starts;
    }

    /// <summary>As .NET numbers threads.</summary>
    public int ThreadId { get; }

    /// <summary>Of the calling thread. Costs some microseconds. Of deeper stacks than 256 frames the outer ones are left out.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static unsafe StackPlace Here()
    {
        ulong* addresses = stackalloc ulong[MaxFrames];
        ulong* starts = stackalloc ulong[MaxFrames];
        int count = (int)ShimLibrary.WalkPlaces(addresses, starts, MaxFrames);
        return new StackPlace(
            Environment.CurrentManagedThreadId,
            new ReadOnlySpan<ulong>(addresses, count).ToArray(),
            new ReadOnlySpan<ulong>(starts, count).ToArray());
    }

    /// <summary>
    /// Where the part of this stack begins that has stood still since another moment: the frames that wait for the same calls at
    /// the same places. Null when there is none, or it is another thread's.
    /// </summary>
    public ulong? UnchangedSince(StackPlace then)
    {
        ulong? start = null;
        if (then.ThreadId == ThreadId && _addresses.Length < MaxFrames && then._addresses.Length < MaxFrames)
        {
            for (int i = 1; i <= Math.Min(_addresses.Length, then._addresses.Length); i++)
            {
                if (_addresses[^i] != then._addresses[^i] || _starts[^i] != then._starts[^i])
                {
                    break;
                }

                start = _starts[^i];
            }
        }

        return start;
    }

    /// <summary>The frame whose part of the stack an address lies in, by where it goes on; 0 when there is none.</summary>
    public ulong FrameAt(ulong stackAddress)
    {
        for (int i = _starts.Length - 1; i >= 0; i--)
        {
            if (stackAddress >= _starts[i])
            {
                return _addresses[i];
            }
        }

        return 0;
    }

    /// <summary>Where the part of the first frame begins that is outside a local of another; 0 when there is none.</summary>
    public ulong OutsideOf(ulong local) => Array.Find(_starts, start => start > local);

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{_addresses.Length} frames of thread {ThreadId}");
}
