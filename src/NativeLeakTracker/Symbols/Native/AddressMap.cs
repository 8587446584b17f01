using System.Runtime.CompilerServices;

namespace NativeLeaks.Symbols.Native;

/// <summary>Addresses from a first one up to, not including, an end; and what is there.</summary>
internal readonly record struct AddressRange(ulong Start, ulong End, int Value);

/// <summary>
/// What is at an address, of ranges that lie within each other: the innermost. The ranges are laid flat once, so that a question
/// is one binary search however deep they are nested.
/// </summary>
internal sealed class AddressMap
{
    public const int Nothing = -1;

    private readonly ulong[] _starts;
    private readonly int[] _values;

    private AddressMap(ulong[] starts, int[] values)
    {
        _starts = starts;
        _values = values;
    }

    /// <summary>
    /// Of ranges with the same start the later ones are the inner ones. Ranges that overlap without nesting are no error: what
    /// began last counts.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static AddressMap Of(ReadOnlySpan<AddressRange> ranges)
    {
        ulong[] keys = new ulong[ranges.Length];
        for (int i = 0; i < keys.Length; i++)
        {
            keys[i] = ranges[i].Start;
        }

        // Each range opens once and closes once.
        ulong[] starts = new ulong[2 * ranges.Length];
        int[] values = new int[2 * ranges.Length];
        int count = 0;
        int[] open = new int[ranges.Length];
        int depth = 0;
        foreach (int index in AddressOrder.Of(keys))
        {
            ref readonly AddressRange range = ref ranges[index];
            if (range.End <= range.Start)
            {
                continue;
            }

            while (depth > 0 && ranges[open[depth - 1]].End <= range.Start)
            {
                CloseTop(ranges, open, ref depth, starts, values, ref count);
            }

            open[depth++] = index;
            Append(starts, values, ref count, range.Start, range.Value);
        }

        while (depth > 0)
        {
            CloseTop(ranges, open, ref depth, starts, values, ref count);
        }

        Array.Resize(ref starts, count);
        Array.Resize(ref values, count);
        return new AddressMap(starts, values);
    }

    public int Find(ulong address)
    {
        int index = AddressOrder.LastNotAbove(_starts, address);
        return index < 0 ? Nothing : _values[index];
    }

    private static void CloseTop(
        ReadOnlySpan<AddressRange> ranges, int[] open, ref int depth, ulong[] starts, int[] values, ref int count)
    {
        ulong end = ranges[open[--depth]].End;
        while (depth > 0 && ranges[open[depth - 1]].End <= end)
        {
            depth--;
        }

        Append(starts, values, ref count, end, depth == 0 ? Nothing : ranges[open[depth - 1]].Value);
    }

    private static void Append(ulong[] starts, int[] values, ref int count, ulong start, int value)
    {
        if (count > 0 && starts[count - 1] == start)
        {
            values[count - 1] = value;
        }
        else if (count == 0 || values[count - 1] != value)
        {
            starts[count] = start;
            values[count++] = value;
        }
    }
}
