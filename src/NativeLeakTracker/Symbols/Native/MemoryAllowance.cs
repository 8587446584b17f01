namespace NativeLeaks.Symbols.Native;

/// <summary>How many bytes of sections may still be held for one library; shared by all files that tell about it.</summary>
internal sealed class MemoryAllowance(long bytes = MemoryAllowance.Default)
{
    /// <summary>Enough for the largest libraries that people link themselves; what is more is refused.</summary>
    public const long Default = 768L << 20;

    private long _left = bytes;

    /// <summary>Takes so many bytes; false, and nothing taken, when they are too many.</summary>
    public bool TryTake(ulong count)
    {
        if (count > (ulong)_left)
        {
            return false;
        }

        _left -= (long)count;
        return true;
    }

    /// <summary>Gives back what is held no longer.</summary>
    public void Return(ulong count) => _left += (long)count;
}
