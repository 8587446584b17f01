using System.Runtime.CompilerServices;

namespace NativeLeaks.Symbols.Native;

/// <summary>
/// Sorts by address: stable, and in linear time whatever the input. A generic sort with a comparison would first run unoptimised,
/// and this is done once in a process.
/// </summary>
internal static class AddressOrder
{
    /// <summary>The indices of the keys in the order of the keys; equal ones in the order that they came in.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static int[] Of(ReadOnlySpan<ulong> keys)
    {
        int[] order = new int[keys.Length];
        ulong all = ulong.MaxValue, any = 0;
        bool sorted = true;
        for (int i = 0; i < keys.Length; i++)
        {
            order[i] = i;
            all &= keys[i];
            any |= keys[i];
            sorted &= i == 0 || keys[i - 1] <= keys[i];
        }

        if (sorted)
        {
            return order;
        }

        int[] next = new int[keys.Length];
        Span<int> places = stackalloc int[256];
        ulong different = all ^ any;
        for (int shift = 0; shift < 64; shift += 8)
        {
            if (((different >> shift) & 0xff) == 0)
            {
                continue;
            }

            places.Clear();
            foreach (ulong key in keys)
            {
                places[(byte)(key >> shift)]++;
            }

            int place = 0;
            for (int digit = 0; digit < 256; digit++)
            {
                (places[digit], place) = (place, place + places[digit]);
            }

            foreach (int index in order)
            {
                next[places[(byte)(keys[index] >> shift)]++] = index;
            }

            (order, next) = (next, order);
        }

        return order;
    }

    /// <summary>The last of the sorted keys that is not above the address; -1 when all are.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static int LastNotAbove(ReadOnlySpan<ulong> sorted, ulong address)
    {
        int low = 0, high = sorted.Length;
        while (low < high)
        {
            int middle = (int)((uint)(low + high) / 2);
            if (sorted[middle] <= address)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        return low - 1;
    }
}
