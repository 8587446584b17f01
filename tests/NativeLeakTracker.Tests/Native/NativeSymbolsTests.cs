using System.Globalization;
using System.Text;
using NativeLeaks.Symbols;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Tests.Native;

/// <summary>Function, file, line and inlined functions of every address are those that addr2line finds.</summary>
[TestFixture]
public sealed class NativeSymbolsTests
{
    private static readonly string[] s_variants =
    [
        "plain", "unoptimised", "dwarf2", "dwarf3", "dwarf4", "dwarf5", "dwarf64", "zlib", "zlib_gnu", "types4", "types5", "sections", "lto",
        "clang4", "clang5", "dwz",
    ];

    public static IEnumerable<TestCaseData> Libraries =>
    [
        .. s_variants.SelectMany(variant => (TestCaseData[])[new(variant, "symbols_c"), new(variant, "symbols_cxx")]),
        new TestCaseData("dwz", "symbols_other"),
        new TestCaseData("rust", "symbols_rust"),
    ];

    [TestCaseSource(nameof(Libraries))]
    public void Every_address_has_the_functions_and_lines_that_addr2line_finds(string variant, string name)
    {
        var library = SymbolLibraries.PathOf(variant, name);

        AssertSameAsAddr2line(library, library, SymbolSettings.None);
    }

    private static void AssertSameAsAddr2line(string library, string withSymbols, SymbolSettings settings)
    {
        var addresses = SymbolLibraries.TextAddresses(library, atMost: 60_000);
        var expected = Addr2line.Find(withSymbols, addresses);
        var functions = Nm.Functions(withSymbols);
        using var symbols = NativeSymbols.Open(library, settings);
        StringBuilder differences = new();
        int count = 0, deepest = 0;
        for (var i = 0; i < addresses.Count; i++)
        {
            var found = symbols.Find(addresses[i]);
            deepest = Math.Max(deepest, found.Count);
            if (!AreSame(found, expected[i], addresses[i], functions) && ++count <= 10)
            {
                differences.AppendLine(CultureInfo.InvariantCulture, $"{addresses[i]:x}\n  found {Text(found)}\n  but   {Text(expected[i])}");
            }
        }

        TestContext.Out.WriteLine($"{addresses.Count} addresses, up to {deepest} functions at one");
        Assert.That(symbols.Problems, Is.Empty);
        Assert.That(count, Is.Zero, differences.ToString());
        Assert.That(deepest, Is.GreaterThan(library.Contains("unoptimised", StringComparison.Ordinal) ? 0 : 3));
        Assert.That(addresses, Has.Count.GreaterThan(1000));
    }

    private static bool AreSame(
        IReadOnlyList<SourceFrame> found, IReadOnlyList<SourceFrame> expected, ulong address, List<FunctionExtent> functions)
    {
        if (found.SequenceEqual(expected))
        {
            return true;
        }

        // Between functions addr2line names the one before, whatever its size. It is not known there, and not said.
        return !functions.Any(function => function.Contains(address)) && expected is [var only] &&
            (found.Count == 0 ? only.Line == 0 : found.SequenceEqual([only with { Function = null }]));
    }

    private static string Text(IEnumerable<SourceFrame> frames) =>
        string.Join(" < ", frames.Select(frame => $"{frame.Function} {frame.File}:{frame.Line}{(frame.IsInlined ? "" : "!")}"));
}
