using System.Runtime.CompilerServices;

namespace NativeLeaks.Heap;

/// <summary>A piece of native memory that pointers may lead to, and that may itself hold pointers.</summary>
/// <param name="Start">First byte.</param>
/// <param name="Bytes">At least 1: something of no size is held by its address.</param>
internal readonly record struct NativeNode(ulong Start, ulong Bytes)
{
    public ulong End => Start + Bytes;
}

/// <summary>
/// Tells which of many disjoint pieces of memory a word points into. Most words point to none: a filter of 64 KB granules says so
/// in about a nanosecond.
/// </summary>
/// <remarks>Keeps no addresses, but distances from the first: a later search could take its arrays for holders.</remarks>
internal sealed class PointerTargets
{
    private const int GranuleShift = 16;
    private const int FilterBits = 20;

    private readonly ulong[] _starts;
    private readonly ulong[] _ends;
    private readonly ulong[] _filter = new ulong[1 << (FilterBits - 6)];
    private readonly ulong _first, _span;

    /// <param name="nodes">By address; none overlaps another.</param>
    public PointerTargets(IReadOnlyList<NativeNode> nodes)
    {
        _starts = new ulong[nodes.Count];
        _ends = new ulong[nodes.Count];
        _first = nodes.Count > 0 ? nodes[0].Start : 0;
        _span = nodes.Count > 0 ? nodes[nodes.Count - 1].End - _first : 0;
        for (int i = 0; i < nodes.Count; i++)
        {
            NativeNode node = nodes[i];
            _starts[i] = node.Start - _first;
            _ends[i] = node.End - _first;
            for (ulong granule = node.Start >> GranuleShift; granule <= (node.End - 1) >> GranuleShift; granule++)
            {
                ulong bit = Hash(granule);
                _filter[bit >> 6] |= 1UL << (int)(bit & 63);
            }
        }
    }

    public int Count => _starts.Length;

    /// <summary>False: the word certainly points to none of them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool MayBe(ulong word)
    {
        if (word - _first >= _span)
        {
            return false;
        }

        ulong bit = Hash(word >> GranuleShift);
        return (_filter[bit >> 6] & (1UL << (int)(bit & 63))) != 0;
    }

    /// <summary>The index of the piece that the word points into; -1 when there is none.</summary>
    public int Find(ulong word)
    {
        if (word - _first >= _span)
        {
            return -1;
        }

        ulong distance = word - _first;
        int index = Array.BinarySearch(_starts, distance);
        index = index >= 0 ? index : ~index - 1;
        return index >= 0 && distance < _ends[index] ? index : -1;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Hash(ulong granule) => (granule * 0x9E3779B97F4A7C15) >> (64 - FilterBits);
}
