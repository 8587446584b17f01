using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace NativeLeaks.Heap;

/// <summary>A piece of native memory that pointers may lead to, and that may itself hold pointers.</summary>
/// <param name="Start">First byte.</param>
/// <param name="Bytes">At least 1: something of no size is held by its address.</param>
internal readonly record struct NativeNode(ulong Start, ulong Bytes) : IAddressed
{
    public ulong End => Start + Bytes;

    /// <summary>By address.</summary>
    public static void Sort(List<NativeNode> nodes) => AddressOrder.Sort(CollectionsMarshal.AsSpan(nodes));
}

/// <summary>
/// Tells which of many disjoint pieces of memory a word points into. Most words point to none: a filter of 64 KB granules says so
/// in about a nanosecond. For those that may, a table tells which pieces lie in the granule.
/// </summary>
/// <remarks>Keeps no addresses, but distances from the first: a later search could take its arrays for holders.</remarks>
internal sealed class PointerTargets
{
    private const int GranuleShift = 16;
    private const int FilterBits = 20;

    // Of longer pieces not every granule is in the table.
    private const ulong MaxGranulesOfPiece = 1024;

    private readonly ulong[] _starts;
    private readonly ulong[] _ends;
    private readonly ulong[] _filter = new ulong[1 << (FilterBits - 6)];
    private readonly ulong _first, _span;
    private readonly Granule[] _granules;
    private readonly int _granuleBits;

    /// <param name="nodes">By address; none overlaps another.</param>
    public PointerTargets(IReadOnlyList<NativeNode> nodes)
    {
        _starts = new ulong[nodes.Count];
        _ends = new ulong[nodes.Count];
        _first = nodes.Count > 0 ? nodes[0].Start : 0;
        _span = nodes.Count > 0 ? nodes[nodes.Count - 1].End - _first : 0;
        int granules = 0;
        ulong last = ulong.MaxValue;
        for (int i = 0; i < nodes.Count; i++)
        {
            NativeNode node = nodes[i];
            _starts[i] = node.Start - _first;
            _ends[i] = node.End - _first;
            for (ulong granule = node.Start >> GranuleShift; granule <= (node.End - 1) >> GranuleShift; granule++)
            {
                ulong bit = Hash(granule, FilterBits);
                _filter[bit >> 6] |= 1UL << (int)(bit & 63);
            }

            (ulong from, ulong to) = GranulesOf(i);
            granules += (int)(to - from) + (from == last ? 0 : 1);
            last = to;
        }

        _granuleBits = BitOperations.Log2((uint)granules + 1) + 2;
        _granules = new Granule[1 << _granuleBits];
        for (int i = 0; i < nodes.Count; i++)
        {
            AddGranules(i);
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

        ulong bit = Hash(word >> GranuleShift, FilterBits);
        return (_filter[bit >> 6] & (1UL << (int)(bit & 63))) != 0;
    }

    /// <summary>The index of the piece that the word points into; -1 when there is none.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public int Find(ulong word)
    {
        ulong distance = word - _first;
        if (distance >= _span)
        {
            return -1;
        }

        int low = 0, high = _starts.Length;
        for (ulong slot = Hash(distance >> GranuleShift, _granuleBits); _granules[slot].Count > 0; slot = (slot + 1) & (ulong)(_granules.Length - 1))
        {
            if (_granules[slot].Number == distance >> GranuleShift)
            {
                low = _granules[slot].FirstPiece;
                high = low + _granules[slot].Count;
                break;
            }
        }

        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (_starts[middle] <= distance)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        return low > 0 && distance < _ends[low - 1] ? low - 1 : -1;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Hash(ulong granule, int bits) => (granule * 0x9E3779B97F4A7C15) >> (64 - bits);

    // By distances: none but the first piece need begin at the start of a granule.
    private (ulong From, ulong To) GranulesOf(int piece)
    {
        ulong from = _starts[piece] >> GranuleShift, to = (_ends[piece] - 1) >> GranuleShift;
        return to - from < MaxGranulesOfPiece ? (from, to) : (from, from);
    }

    private void AddGranules(int piece)
    {
        (ulong from, ulong to) = GranulesOf(piece);
        for (ulong granule = from; granule <= to; granule++)
        {
            ulong slot = Hash(granule, _granuleBits);
            while (_granules[slot].Count > 0 && _granules[slot].Number != granule)
            {
                slot = (slot + 1) & (ulong)(_granules.Length - 1);
            }

            ref Granule entry = ref _granules[slot];
            entry = entry.Count == 0 ? new Granule(granule, piece, 1) : entry with { Count = piece - entry.FirstPiece + 1 };
        }
    }

    /// <param name="Number">Of the granule, from the first piece on.</param>
    /// <param name="FirstPiece">That lies in it.</param>
    /// <param name="Count">How many do; 0: it is no granule, and none that follows.</param>
    private readonly record struct Granule(ulong Number, int FirstPiece, int Count);
}
