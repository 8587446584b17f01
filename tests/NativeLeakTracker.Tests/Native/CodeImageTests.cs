using System.Globalization;
using System.Runtime.InteropServices;
using NativeLeaks.Symbols;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Tests.Native;

/// <summary>Functions, imports and code of libraries: what binutils finds, and no harm from what is no library.</summary>
[TestFixture]
public sealed class CodeImageTests
{
    private static readonly TimeSpan s_hang = TimeSpan.FromSeconds(60);

    public static IEnumerable<string> Libraries =>
    [
        Path.Combine(
            Path.GetDirectoryName(RepositoryPaths.ChildProgram("SqliteInterop"))!,
            "runtimes", "linux-x64", "native", "libe_sqlite3.so"),
        Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "libSystem.Native.so"),
        RepositoryPaths.Shim,
    ];

    [TestCaseSource(nameof(Libraries))]
    public void Every_exported_function_is_found_from_its_first_byte_to_its_last(string library)
    {
        using var symbols = NativeSymbols.Open(library, SymbolSettings.None);
        var functions = Nm.Functions(library, "-D");

        Assert.That(functions, Is.Not.Empty);
        foreach (var sameStart in functions.GroupBy(function => function.Start))
        {
            var names = sameStart.Select(function => function.Name).ToList();
            var size = sameStart.Max(function => function.Size);
            foreach (var offset in (ulong[])[0, size / 2, size - 1])
            {
                var found = symbols.FunctionAt(sameStart.Key + offset);
                Assert.That(names, Does.Contain(found?.Name), $"{names[0]}+{offset}");
                Assert.That(found!.Value.Start, Is.EqualTo(sameStart.Key));
                Assert.That(found.Value.Size, Is.EqualTo(size));
            }

            foreach (var name in names)
            {
                Assert.That(symbols.AddressOf(name!), Is.EqualTo(sameStart.Key), name);
            }
        }

        Assert.That(symbols.AddressOf("no such function"), Is.Null);
        Assert.That(symbols.AddressOf(""), Is.Null);
    }

    [TestCaseSource(nameof(Libraries))]
    public void Addresses_between_functions_have_no_name(string library)
    {
        using var symbols = NativeSymbols.Open(library, SymbolSettings.None);
        var functions = Nm.Functions(library, "-D").Concat(Nm.Functions(library)).OrderBy(function => function.Start).ToList();
        var gaps = 0;
        ulong end = 0;
        foreach (var function in functions)
        {
            if (function.Start > end)
            {
                Assert.That(symbols.FunctionAt(end)?.Name, Is.Null);
                Assert.That(symbols.FunctionAt(function.Start - 1)?.Name, Is.Null);
                gaps++;
            }

            end = Math.Max(end, function.Start + function.Size);
        }

        Assert.That(gaps, Is.Positive);
        Assert.That(symbols.FunctionAt(0), Is.Null);
        Assert.That(symbols.FunctionAt(ulong.MaxValue), Is.Null);
        Assert.That(symbols.Find(0), Is.Empty);
        Assert.That(symbols.Find(end), Is.Empty);
        Assert.That(symbols.Find(ulong.MaxValue), Is.Empty);
    }

    [TestCase("symbols_c")]
    [TestCase("symbols_cxx")]
    public void Functions_of_a_stripped_library_begin_and_end_where_its_unwind_data_says(string name)
    {
        using var folder = new TemporaryFolder();
        var library = SymbolLibraries.PathOf("plain", name);
        var bare = folder.File("libbare.so");
        SymbolLibraries.Objcopy("--strip-all", library, bare);
        using var symbols = NativeSymbols.Open(bare, SymbolSettings.None);
        var exported = Nm.Functions(bare, "-D").Select(function => function.Start).ToHashSet();
        var unnamed = 0;
        foreach (var function in Nm.Functions(library).Where(function => !exported.Contains(function.Start) && function.Name![0] != '_' | function.Name.StartsWith("_Z", StringComparison.Ordinal)))
        {
            foreach (var address in (ulong[])[function.Start, function.Start + function.Size - 1])
            {
                Assert.That(symbols.FunctionAt(address), Is.EqualTo(function with { Name = null }), function.Name);
            }

            unnamed++;
        }

        Assert.That(unnamed, Is.GreaterThan(2));
    }

    [TestCaseSource(nameof(Libraries))]
    public void Imports_are_the_relocations_that_readelf_lists(string library)
    {
        using var symbols = NativeSymbols.Open(library, SymbolSettings.None);
        var run = ChildProcess.Run("readelf", ["-rW", library]);
        var slots = 0;
        foreach (var parts in run.Output.Split('\n').Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries)))
        {
            if (parts.Length < 5 || parts[2] is not ("R_X86_64_JUMP_SLOT" or "R_X86_64_JUMP_SLO" or "R_X86_64_GLOB_DAT"))
            {
                continue;
            }

            var slot = ulong.Parse(parts[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            Assert.That(symbols.ImportAt(slot), Is.EqualTo(parts[4].Split('@')[0]));
            Assert.That(symbols.ImportAt(slot + 1), Is.Null);
            slots++;
        }

        Assert.That(slots, Is.Positive);
    }

    [TestCaseSource(nameof(Libraries))]
    public void Code_is_the_bytes_of_the_file_and_ends_with_its_segment(string library)
    {
        using var symbols = NativeSymbols.Open(library, SymbolSettings.None);
        using var file = ElfFile.TryOpen(library, new MemoryAllowance(), new SymbolProblems())!;
        var bytes = File.ReadAllBytes(library);
        var code = file.Segments.Single(segment => segment.IsCode);
        var random = new Random(20_260_103);
        for (var round = 0; round < 1000; round++)
        {
            var offset = (ulong)random.NextInt64((long)code.FileBytes);
            var count = random.Next(round < 500 ? 20 : 200_000);
            var expected = bytes.AsSpan((int)(code.Offset + offset), (int)Math.Min((ulong)count, code.FileBytes - offset));

            Assert.That(symbols.CodeAt(code.Address + offset, count).SequenceEqual(expected), Is.True, $"{offset} {count}");
        }

        Assert.That(symbols.CodeAt(code.Address + code.MemoryBytes, 1).IsEmpty, Is.True);
        Assert.That(symbols.CodeAt(code.Address - 1, 1).IsEmpty, Is.True);
        Assert.That(symbols.CodeAt(code.Address, 0).IsEmpty, Is.True);
        Assert.That(symbols.CodeAt(code.Address, -1).IsEmpty, Is.True);
        Assert.That(symbols.CodeAt(ulong.MaxValue, int.MaxValue).IsEmpty, Is.True);
    }

    [TestCase("pipe")]
    [TestCase("link to pipe")]
    [TestCase("folder")]
    [TestCase("empty")]
    [TestCase("nothing")]
    [TestCase("link to itself")]
    [TestCase("/dev/zero")]
    [TestCase("/dev/null")]
    [TestCase("/proc/self/mem")]
    [TestCase("/proc/self/maps")]
    [TestCase("")]
    [TestCase("name\0with a zero")]
    [TestCase("[vdso]")]
    [TestCase("/etc/passwd")]
    public void What_is_no_library_is_empty(string name)
    {
        using var folder = MakeTraps();
        var path = name.Length == 0 || name[0] is '/' or '[' ? name : folder.File(name);

        var read = Task.Run(() =>
        {
            using var symbols = NativeSymbols.Open(path, SymbolSettings.None);
            Assert.That(symbols.Find(0x1000), Is.Empty);
            Assert.That(symbols.FunctionAt(0x1000), Is.Null);
            Assert.That(symbols.AddressOf("main"), Is.Null);
            Assert.That(symbols.ImportAt(0x4000), Is.Null);
            Assert.That(symbols.CodeAt(0x1000, 16).IsEmpty, Is.True);
            Assert.That(symbols.IsStripped, Is.False);
            Assert.That(symbols.Advice, Is.Null);
            Assert.That(symbols.BuildId, Is.Null);
        });

        Assert.That(read.Wait(s_hang), Is.True, "reading hangs");
    }

    [TestCase("pipe")]
    [TestCase("link to pipe")]
    [TestCase("folder")]
    [TestCase("empty")]
    [TestCase("link to itself")]
    [TestCase("/dev/zero")]
    public void What_is_no_file_in_place_of_a_debug_file_does_no_harm(string name)
    {
        using var folder = MakeTraps();
        var library = SymbolLibraries.PathOf("plain", "symbols_c");
        var debugFile = SymbolLibraries.BuildIdFile(folder.File("store"), library);
        var stripped = SymbolLibraries.Split(
            library, folder.File("lib"), folder.File("lib/debug-of-it"), "--strip-all", $"--add-gnu-debuglink={folder.File("lib/debug-of-it")}");
        Directory.CreateDirectory(Path.GetDirectoryName(debugFile)!);
        foreach (var path in (string[])[debugFile, folder.File("lib/debug-of-it")])
        {
            File.Delete(path);
            File.CreateSymbolicLink(path, name[0] == '/' ? name : folder.File(name));
        }

        var read = Task.Run(() =>
        {
            using var symbols = NativeSymbols.Open(stripped, new SymbolSettings { SearchFolders = [folder.File("store")] });
            return symbols.Find(symbols.AddressOf("counters_walk")!.Value);
        });

        Assert.That(read.Wait(s_hang), Is.True, "reading hangs");
        Assert.That(read.Result, Is.EqualTo((SourceFrame[])[new SourceFrame("counters_walk", null, 0, false)]));
    }

    private static TemporaryFolder MakeTraps()
    {
        var folder = new TemporaryFolder();
        ChildProcess.Run("mkfifo", [folder.File("pipe")]);
        File.CreateSymbolicLink(folder.File("link to pipe"), folder.File("pipe"));
        File.CreateSymbolicLink(folder.File("link to itself"), folder.File("link to itself"));
        Directory.CreateDirectory(folder.File("folder"));
        File.WriteAllBytes(folder.File("empty"), []);
        return folder;
    }
}
