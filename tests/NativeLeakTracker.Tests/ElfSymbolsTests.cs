using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using NativeLeaks.Symbols;

namespace NativeLeaks.Tests;

/// <summary>Names of functions in ELF files: those that binutils' nm finds, and no harm from files that nobody should trust.</summary>
[TestFixture]
public sealed class ElfSymbolsTests
{
    private static readonly TimeSpan s_hang = TimeSpan.FromSeconds(30);
    private static readonly string s_smallLibrary = Path.Combine(RepositoryPaths.NativeFixtures, "libblocks.so");

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
        var symbols = ElfSymbols.Read(library);
        var functions = Nm(library, "-D");

        Assert.That(functions, Is.Not.Empty);
        foreach (var sameStart in functions.GroupBy(function => function.Start))
        {
            var names = sameStart.Select(function => function.Name).ToList();
            var size = sameStart.Max(function => function.Size);
            foreach (var offset in (ulong[])[0, size / 2, size - 1])
            {
                var found = symbols.Find(sameStart.Key + offset);
                Assert.That(found?.Name, Is.AnyOf([.. names]), $"{names[0]}+{offset}");
                Assert.That(found!.Value.Offset, Is.EqualTo((long)offset));
            }
        }
    }

    [TestCaseSource(nameof(Libraries))]
    public void Addresses_between_functions_have_no_name(string library)
    {
        var symbols = ElfSymbols.Read(library);
        var functions = Nm(library, "-D").Concat(Nm(library)).OrderBy(function => function.Start).ToList();
        var gaps = 0;
        ulong end = 0;
        foreach (var function in functions)
        {
            if (function.Start > end)
            {
                Assert.That(symbols.Find(end), Is.Null);
                Assert.That(symbols.Find(function.Start - 1), Is.Null);
                gaps++;
            }

            end = Math.Max(end, function.Start + function.Size);
        }

        Assert.That(gaps, Is.Positive);
        Assert.That(symbols.Find(0), Is.Null);
        Assert.That(symbols.Find(end), Is.Null);
        Assert.That(symbols.Find(ulong.MaxValue), Is.Null);
    }

    [Test]
    public void No_mutation_of_a_file_does_harm()
    {
        var original = File.ReadAllBytes(s_smallLibrary);
        var random = new Random(20_260_101);
        for (var round = 0; round < 10_000; round++)
        {
            var mutant = (byte[])original.Clone();
            for (var count = random.Next(1, 20); count > 0; count--)
            {
                Mutate(mutant, random);
            }

            AssertHarmless(mutant, round);
        }
    }

    [Test]
    public void No_truncation_of_a_file_does_harm()
    {
        var original = File.ReadAllBytes(s_smallLibrary);
        for (var length = 0; length < original.Length; length += length < 1024 ? 1 : 7)
        {
            AssertHarmless(original[..length], length);
        }
    }

    [Test]
    public void No_garbage_behind_a_valid_beginning_does_harm()
    {
        var original = File.ReadAllBytes(s_smallLibrary);
        var random = new Random(20_260_102);
        for (var round = 0; round < 2_000; round++)
        {
            var garbage = new byte[random.Next(64, 8192)];
            random.NextBytes(garbage);
            original.AsSpan(0, 64).CopyTo(garbage);
            BinaryPrimitives.WriteInt64LittleEndian(garbage.AsSpan(0x28), random.Next(garbage.Length));
            AssertHarmless(garbage, round);
        }
    }

    // Each of the file's sections claims to be a symbol table, and the same one: the symbols are few, the claims many.
    [Test]
    public void Symbol_tables_that_lie_upon_each_other_do_not_multiply()
    {
        var file = HostileFile(sections: 300, symbols: 2000, nameLength: 8);

        AssertHarmless(file, 0);
    }

    // Each symbol's name is all the rest of the file.
    [Test]
    public void Names_that_lie_upon_each_other_do_not_multiply()
    {
        var file = HostileFile(sections: 2, symbols: 2000, nameLength: 20_000);

        AssertHarmless(file, 0);
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
    public void What_is_no_file_has_no_symbols(string name)
    {
        using var folder = new TemporaryFolder();
        ChildProcess.Run("mkfifo", [folder.File("pipe")]);
        File.CreateSymbolicLink(folder.File("link to pipe"), folder.File("pipe"));
        File.CreateSymbolicLink(folder.File("link to itself"), folder.File("link to itself"));
        Directory.CreateDirectory(folder.File("folder"));
        File.WriteAllBytes(folder.File("empty"), []);
        var path = name.Length == 0 || name[0] is '/' or '[' ? name : folder.File(name);

        var read = Task.Run(() => ElfSymbols.Read(path));

        Assert.That(read.Wait(s_hang), Is.True, "reading hangs");
        Assert.That(read.Result, Is.SameAs(ElfSymbols.Empty));
    }

    [Test]
    public void File_of_another_kind_has_no_symbols()
    {
        Assert.That(ElfSymbols.Read(typeof(object).Assembly.Location), Is.SameAs(ElfSymbols.Empty));
        Assert.That(ElfSymbols.Read("/etc/passwd"), Is.SameAs(ElfSymbols.Empty));
    }

    private static void Mutate(byte[] file, Random random)
    {
        // Half of the changes hit what decides: the file's header and the section headers at its end.
        var at = random.Next(4) switch
        {
            0 => random.Next(64),
            1 => file.Length - 1 - random.Next(Math.Min(file.Length, 64 * 32)),
            _ => random.Next(file.Length),
        };
        switch (random.Next(3))
        {
            case 0:
                file[at] = (byte)random.Next(256);
                break;
            case 1:
                file[at] ^= (byte)(1 << random.Next(8));
                break;
            default:
                // The values at which arithmetic breaks.
                ulong[] edges = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff, long.MaxValue, 1UL << 63, ulong.MaxValue,
                    (ulong)file.Length, (ulong)file.Length - 1];
                if (at + 8 <= file.Length)
                {
                    BinaryPrimitives.WriteUInt64LittleEndian(file.AsSpan(at), edges[random.Next(edges.Length)]);
                }

                break;
        }
    }

    /// <summary>Neither throws nor hangs, and takes memory in proportion to the file.</summary>
    private static void AssertHarmless(byte[] file, int round)
    {
        var before = GC.GetAllocatedBytesForCurrentThread();
        var symbols = ElfSymbols.Parse(file);
        foreach (var address in (ulong[])[0, 0x1000, 0x1139, (ulong)file.Length, 1UL << 63, ulong.MaxValue])
        {
            _ = symbols.Find(address);
        }

        var allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.That(allocated, Is.LessThan((20L * file.Length) + (64 * 1024)), $"round {round}");
    }

    /// <summary>A file whose section headers are all the same symbol table, but for the last, which is its names.</summary>
    private static byte[] HostileFile(int sections, int symbols, int nameLength)
    {
        var symbolsAt = 64;
        var namesAt = symbolsAt + (symbols * 24);
        var sectionsAt = namesAt + nameLength + 1;
        var file = new byte[sectionsAt + (sections * 64)];
        "\u007fELF\u0002\u0001"u8.CopyTo(file);
        BinaryPrimitives.WriteInt64LittleEndian(file.AsSpan(0x28), sectionsAt);
        BinaryPrimitives.WriteUInt16LittleEndian(file.AsSpan(0x3c), (ushort)sections);
        for (var symbol = 0; symbol < symbols; symbol++)
        {
            var entry = file.AsSpan(symbolsAt + (symbol * 24));
            entry[4] = 2;
            entry[6] = 1;
            BinaryPrimitives.WriteInt64LittleEndian(entry[8..], 0x1000 + (symbol * 16));
            BinaryPrimitives.WriteInt64LittleEndian(entry[16..], 16);
        }

        file.AsSpan(namesAt, nameLength).Fill((byte)'a');
        for (var section = 0; section < sections; section++)
        {
            var header = file.AsSpan(sectionsAt + (section * 64));
            var isNames = section == sections - 1;
            BinaryPrimitives.WriteInt32LittleEndian(header[4..], isNames ? 3 : 2);
            BinaryPrimitives.WriteInt64LittleEndian(header[0x18..], isNames ? namesAt : symbolsAt);
            BinaryPrimitives.WriteInt64LittleEndian(header[0x20..], isNames ? nameLength + 1 : symbols * 24);
            BinaryPrimitives.WriteInt32LittleEndian(header[0x28..], sections - 1);
        }

        return file;
    }

    /// <summary>The functions that have a size, as nm lists them: "address size type name", without the name's version.</summary>
    private static List<(ulong Start, ulong Size, string Name)> Nm(string library, params string[] options)
    {
        var run = ChildProcess.Run("nm", [.. options, "--defined-only", "-S", library]);
        Assert.That(run.ExitCode, Is.Zero, run.Error);
        return
        [
            .. run.Output.Split('\n')
                .Select(line => line.Split(' '))
                .Where(parts => parts is [_, _, "T" or "t" or "W" or "w" or "i", _])
                .Select(parts => (Hex(parts[0]), Hex(parts[1]), parts[3].Split('@')[0])),
        ];

        static ulong Hex(string text) => ulong.Parse(text, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }
}
