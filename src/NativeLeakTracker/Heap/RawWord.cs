namespace NativeLeaks.Heap;

/// <summary>
/// A word of the program's memory, or an address in it, as the tracker keeps many of them. A type of the tracker's own: an array of <see cref="ulong"/> looks
/// like the program's own list of pointers to the search for holders, even when it is garbage; an array of these holds nothing.
/// </summary>
internal readonly record struct RawWord(ulong Value) : IComparable<RawWord>
{
    public static implicit operator ulong(RawWord word) => word.Value;

    public static implicit operator RawWord(ulong value) => new(value);

    public int CompareTo(RawWord other) => Value.CompareTo(other.Value);
}
