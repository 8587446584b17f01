using System.Runtime.CompilerServices;

namespace NativeLeaks.Capture;

/// <summary>The frames of a thread at one moment, innermost first: where each goes on, and where its part of the stack begins.</summary>
internal sealed class StackPlace
{
    private const int MaxFrames = 256;
    private readonly ulong[] _addresses;
    private readonly ulong[] _starts;

    private StackPlace(ulong[] addresses, ulong[] starts)
    {
        _addresses = addresses;
        _starts = starts;
    }

    /// <summary>Of the calling thread. Costs some microseconds. Of deeper stacks than 256 frames the outer ones are left out.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static unsafe StackPlace Here()
    {
        ulong* addresses = stackalloc ulong[MaxFrames];
        ulong* starts = stackalloc ulong[MaxFrames];
        int count = (int)ShimLibrary.WalkPlaces(addresses, starts, MaxFrames);
        return new StackPlace(
            new ReadOnlySpan<ulong>(addresses, count).ToArray(),
            new ReadOnlySpan<ulong>(starts, count).ToArray());
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

    /// <summary>
    /// Where the part begins of the first frame that is outside of all those whose code is one's; 0 when there is none, or the outermost frames are not known.
    /// </summary>
    public ulong OutsideOf(Func<ulong, bool> isOnes)
    {
        int outermost = Array.FindLastIndex(_addresses, address => isOnes(address));
        return outermost >= 0 && outermost + 1 < _starts.Length && _starts.Length < MaxFrames ? _starts[outermost + 1] : 0;
    }

    /// <summary>Where the part of the first frame begins that is outside a local of another; 0 when there is none.</summary>
    public ulong OutsideOf(ulong local) => Array.Find(_starts, start => start > local);
}
