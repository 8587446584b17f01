namespace NativeLeaks.Symbols.Native;

/// <summary>
/// How much work and memory the debug information of one file may still cost. What it may cost grows with what was read: honest
/// files look at each byte about once, hostile ones make few bytes count many times.
/// </summary>
internal sealed class DwarfLimits
{
    private const int PerByte = 4;
    private const long MaxTextBytes = 64 << 20;

    private long _steps = 1 << 20;
    private long _ranges = 16 << 20;
    private long _rows = 32 << 20;
    private long _textBytes = MaxTextBytes;

    /// <summary>Whether something was left out because of a limit.</summary>
    public bool WasReached { get; private set; }

    public void AddBytes(int count) => _steps += (long)count * PerByte;

    public bool TryStep(long count) => TryTake(ref _steps, count);

    public bool TryAddRange() => TryTake(ref _ranges, 1);

    public bool TryAddRows(long count) => TryTake(ref _rows, count);

    public bool TryDecode(long bytes) => TryTake(ref _textBytes, bytes);

    private bool TryTake(ref long left, long count)
    {
        if (count > left)
        {
            WasReached = true;
            return false;
        }

        left -= count;
        return true;
    }
}
