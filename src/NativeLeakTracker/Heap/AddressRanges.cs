namespace NativeLeaks.Heap;

/// <summary>Addresses from a start up to an end.</summary>
internal readonly record struct AddressRange(ulong Start, ulong End)
{
    public bool Contains(ulong address) => address >= Start && address < End;
}

/// <summary>A set of addresses, as disjoint ranges in order.</summary>
internal sealed class AddressRanges
{
    private readonly List<AddressRange> _ranges = [];

    public AddressRanges(IEnumerable<AddressRange> ranges)
    {
        foreach (AddressRange range in ranges.Where(static r => r.End > r.Start).OrderBy(static r => r.Start))
        {
            if (_ranges.Count > 0 && range.Start <= _ranges[^1].End)
            {
                _ranges[^1] = _ranges[^1] with { End = Math.Max(_ranges[^1].End, range.End) };
            }
            else
            {
                _ranges.Add(range);
            }
        }
    }

    public IReadOnlyList<AddressRange> Ranges => _ranges;

    public bool Contains(ulong address)
    {
        int index = LastNotAbove(address);
        return index >= 0 && address < _ranges[index].End;
    }

    /// <summary>What of a range is not in the set.</summary>
    public IEnumerable<AddressRange> Outside(AddressRange range)
    {
        ulong at = range.Start;
        for (int i = Math.Max(LastNotAbove(range.Start), 0); i < _ranges.Count && _ranges[i].Start < range.End; i++)
        {
            if (_ranges[i].Start > at)
            {
                yield return new AddressRange(at, _ranges[i].Start);
            }

            at = Math.Max(at, _ranges[i].End);
        }

        if (at < range.End)
        {
            yield return new AddressRange(at, range.End);
        }
    }

    private int LastNotAbove(ulong address)
    {
        int low = 0, high = _ranges.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (_ranges[middle].Start <= address)
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
