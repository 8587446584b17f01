using System.Globalization;

namespace NativeLeaks.Reports;

/// <summary>Numbers as people read them, in every culture alike.</summary>
internal static class Amounts
{
    public static string Amount(long blocks, long bytes) => $"{Count(blocks, "block")}, {Count(bytes, "byte")}";

    public static string Amount(IReadOnlyList<LeakGroup> groups) =>
        Amount(groups.Sum(static g => g.Blocks), groups.Sum(static g => g.Bytes));

    public static string Count(long count, string noun) => $"{Number(count)} {noun}{(count == 1 ? "" : "s")}";

    public static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
