using System.Globalization;
using System.Text;
using NativeLeaks.Symbols;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Tests.Native;

/// <summary>
/// Function, file, line and inlined functions of every address are those that addr2line finds. Its version 2.40 is wrong, or
/// silent, about some of what compilers write (the first file of a sequence in DWARF 5, 64-bit DWARF 5, old-style compressed DWARF
/// 5, types of DWARF 5); wherever it says something else, LLVM's symbolizer must say what we say.
/// </summary>
[TestFixture]
public sealed class NativeSymbolsTests
{
    private static readonly string[] s_variants =
    [
        "plain", "unoptimised", "dwarf2", "dwarf3", "dwarf4", "dwarf5", "dwarf64", "zlib", "zlib_gnu", "types4", "types5", "sections", "lto",
        "clang4", "clang5",
    ];

    public static IEnumerable<TestCaseData> Libraries =>
    [
        .. s_variants.SelectMany(variant => (TestCaseData[])[new(variant, "symbols_c"), new(variant, "symbols_cxx")]),
        new TestCaseData("rust", "symbols_rust"),
    ];

    [TestCaseSource(nameof(Libraries))]
    public void Every_address_has_the_functions_and_lines_that_addr2line_finds(string variant, string name)
    {
        var library = SymbolLibraries.PathOf(variant, name);

        AssertSameAsAddr2line(library, library, SymbolSettings.None);
    }

    // addr2line does not read what dwz made of DWARF 5, so the library as it was before is asked.
    [TestCase("symbols_c", "plain", "symbols_c")]
    [TestCase("symbols_cxx", "plain", "symbols_cxx")]
    [TestCase("symbols_other", "sections", "symbols_cxx")]
    public void What_dwz_moved_to_a_supplement_is_found_there(string name, string variant, string nameBefore)
    {
        var library = SymbolLibraries.PathOf("dwz", name);
        using var symbols = NativeSymbols.Open(library, SymbolSettings.None);
        using var before = NativeSymbols.Open(SymbolLibraries.PathOf(variant, nameBefore), SymbolSettings.None);

        foreach (var address in SymbolLibraries.TextAddresses(library))
        {
            Assert.That(symbols.Find(address), Is.EqualTo(before.Find(address)), $"{address:x}");
        }

        Assert.That(symbols.Problems, Is.Empty);
    }

    [Test]
    public void Without_the_supplement_there_are_lines_and_it_is_said_what_is_missing()
    {
        using var folder = new TemporaryFolder();
        var library = folder.File("libalone.so");
        File.Copy(SymbolLibraries.PathOf("dwz", "symbols_c"), library);
        using var symbols = NativeSymbols.Open(library, SymbolSettings.None);

        var frames = symbols.Find(symbols.AddressOf("counters_walk")!.Value);

        Assert.That(frames.Any(frame => frame.File!.EndsWith("counters.c", StringComparison.Ordinal) && frame.Line > 0), Is.True);
        _ = SymbolLibraries.TextAddresses(library).Select(symbols.Find).ToList();
        Assert.That(symbols.Problems, Has.Some.Contains("supplement shared.debug was not found"));
    }

    [TestCase("symbols_c")]
    [TestCase("symbols_cxx")]
    public void Of_split_debug_information_there_are_lines_and_symbols(string name)
    {
        using var symbols = NativeSymbols.Open(SymbolLibraries.PathOf("split", name), SymbolSettings.None);
        var function = name == "symbols_c" ? "counters_walk" : "shapes_run";

        var frames = symbols.Find(symbols.AddressOf(function)!.Value);

        Assert.That(frames, Has.Count.EqualTo(1));
        Assert.That(frames[0].Function, Is.EqualTo(function));
        Assert.That(frames[0].File, Does.EndWith(name == "symbols_c" ? "counters.c" : "words.cpp"));
        Assert.That(frames[0].Line, Is.Positive);
        Assert.That(symbols.Problems, Has.Some.Contains("split (.dwo)"));
    }

    [Test]
    public void Paths_are_shown_as_the_map_says()
    {
        var library = SymbolLibraries.PathOf("plain", "symbols_c");
        using var plain = NativeSymbols.Open(library, SymbolSettings.None);
        var address = plain.AddressOf("counters_walk")!.Value;
        var folder = Path.GetDirectoryName(plain.Find(address)[^1].File)!;
        using var mapped = NativeSymbols.Open(library, new SymbolSettings { PathMap = [(folder, "src")] });

        Assert.That(mapped.Find(address)[^1].File, Is.EqualTo("src/counters.c"));
    }

    internal static void AssertSameAsAddr2line(string library, string withSymbols, SymbolSettings settings)
    {
        var addresses = SymbolLibraries.TextAddresses(library, atMost: 60_000);
        var expected = Addr2line.Find(withSymbols, addresses);
        var functions = Nm.Functions(withSymbols);
        using var symbols = NativeSymbols.Open(library, settings);
        List<(ulong Address, IReadOnlyList<SourceFrame> Found, IReadOnlyList<SourceFrame> Expected)> different = [];
        var deepest = 0;
        for (var i = 0; i < addresses.Count; i++)
        {
            var found = symbols.Find(addresses[i]);
            deepest = Math.Max(deepest, found.Count);
            if (!AreSame(found, expected[i], addresses[i], functions))
            {
                different.Add((addresses[i], found, expected[i]));
            }
        }

        Assert.That(symbols.Problems, Is.Empty);
        Assert.That(addresses, Has.Count.GreaterThan(1000));
        Assert.That(deepest, Is.GreaterThan(library.Contains("unoptimised", StringComparison.Ordinal) ? 0 : 3));
        TestContext.Out.WriteLine(
            $"{addresses.Count} addresses, up to {deepest} functions at one; {different.Count} unlike addr2line");
        AssertSecondOpinion(withSymbols, different, functions);
    }

    private static void AssertSecondOpinion(
        string library,
        List<(ulong Address, IReadOnlyList<SourceFrame> Found, IReadOnlyList<SourceFrame> Expected)> different,
        List<FunctionExtent> functions)
    {
        if (different.Count == 0)
        {
            return;
        }

        if (!LlvmSymbolizer.IsInstalled)
        {
            Assert.Ignore($"addr2line differs at {different.Count} addresses; llvm-symbolizer, to judge, is not installed (package llvm)");
        }

        var second = LlvmSymbolizer.Find(library, [.. different.Select(one => one.Address)]);
        StringBuilder text = new();
        var count = 0;
        for (var i = 0; i < different.Count; i++)
        {
            var (address, found, expected) = different[i];
            if (!AgreeButForSymbol(found, second[i], functions) && ++count <= 10)
            {
                text.AppendLine(
                    CultureInfo.InvariantCulture, $"{address:x}\n  found {Text(found)}\n  but   {Text(expected)}\n  llvm  {Text(second[i])}");
            }
        }

        Assert.That(count, Is.Zero, text.ToString());
    }

    // LLVM takes the outermost name from the symbol table: any of several at the same place, and with suffixes like .cold.
    private static bool AgreeButForSymbol(
        IReadOnlyList<SourceFrame> found, IReadOnlyList<SourceFrame> second, List<FunctionExtent> functions)
    {
        if (found.Count == 0 || found.Count != second.Count || !found.SkipLast(1).SequenceEqual(second.SkipLast(1)) ||
            found[^1] != second[^1] with { Function = found[^1].Function })
        {
            return false;
        }

        string ours = found[^1].Function ?? "", theirs = second[^1].Function ?? "";
        return theirs.StartsWith(ours, StringComparison.Ordinal) ||
            functions.Where(function => function.Name == ours).Any(
                one => functions.Any(other => other.Name == theirs && other.Start == one.Start));
    }

    private static bool AreSame(
        IReadOnlyList<SourceFrame> found, IReadOnlyList<SourceFrame> expected, ulong address, List<FunctionExtent> functions)
    {
        if (found.SequenceEqual(expected))
        {
            return true;
        }

        // Where there are no lines, addr2line takes the name of the file from the symbol table, which has no folders and no lines.
        if (found is [{ File: null, Line: 0 }] && expected is [{ File: { } file, Line: 0 }] && !file.Contains('/') &&
            found[0].Function == expected[0].Function)
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
