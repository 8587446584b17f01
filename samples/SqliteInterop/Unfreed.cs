using System.Globalization;

namespace SqliteInterop;

/// <summary>Memory that was allocated and not freed.</summary>
internal readonly record struct Unfreed(long Blocks, long Bytes)
{
    public static Unfreed operator +(Unfreed a, Unfreed b) => new(a.Blocks + b.Blocks, a.Bytes + b.Bytes);

    public override string ToString() => Blocks == 0 ? "nothing" : $"{Count(Blocks, "block")}, {Count(Bytes, "byte")}";

    internal static string Count(long number, string what) =>
        string.Create(CultureInfo.InvariantCulture, $"{number:N0} {what}{(number == 1 ? "" : "s")}");
}
