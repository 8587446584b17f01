namespace NativeLeaks.Heap;

/// <summary>Something that lies at an address.</summary>
internal interface IAddressed
{
    ulong Start { get; }
}

/// <summary>Puts things in order of addresses. Where they are in order already, as the chunks of one heap are, that costs one look at each.</summary>
internal static class AddressOrder
{
    public static void Sort<T>(Span<T> things)
        where T : struct, IAddressed
    {
        for (int i = 1; i < things.Length; i++)
        {
            if (things[i].Start < things[i - 1].Start)
            {
                SortByKeys(things);
                return;
            }
        }
    }

    private static void SortByKeys<T>(Span<T> things)
        where T : struct, IAddressed
    {
        var starts = new RawWord[things.Length];
        for (int i = 0; i < starts.Length; i++)
        {
            starts[i] = things[i].Start;
        }

        starts.AsSpan().Sort(things);
    }
}
