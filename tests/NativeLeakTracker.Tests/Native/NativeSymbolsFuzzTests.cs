using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using NativeLeaks.Symbols;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Tests.Native;

/// <summary>
/// Damaged files cost names, and nothing else. NLT_FUZZ_SECONDS goes on for so long (tests/prove/40-hostile-symbols.sh), NLT_FUZZ_SEED
/// begins elsewhere.
/// </summary>
[TestFixture]
public sealed class NativeSymbolsFuzzTests
{
    private const int Rounds = 600;

    // What the largest index of such small files may allocate; measured are some megabytes.
    private const long MaxAllocatedBytes = 512L << 20;
    private static readonly TimeSpan s_hang = TimeSpan.FromSeconds(60);

    private static readonly (string Variant, string Name)[] s_libraries =
    [
        ("plain", "symbols_c"), ("plain", "symbols_cxx"), ("dwarf2", "symbols_c"), ("dwarf4", "symbols_cxx"), ("dwarf64", "symbols_c"),
        ("types4", "symbols_c"), ("zlib", "symbols_c"), ("zlib_gnu", "symbols_c"), ("clang5", "symbols_cxx"), ("dwz", "symbols_c"),
    ];

    [Test]
    public void No_mutation_of_a_debug_file_does_harm()
    {
        var seconds = int.Parse(Environment.GetEnvironmentVariable("NLT_FUZZ_SECONDS") ?? "0", CultureInfo.InvariantCulture);
        var seed = int.Parse(Environment.GetEnvironmentVariable("NLT_FUZZ_SEED") ?? "20261124", CultureInfo.InvariantCulture);
        using var folder = new TemporaryFolder();
        var libraries = s_libraries
            .Select(library => Path.Combine(RepositoryPaths.NativeFixtures, "symbols", library.Variant, $"lib{library.Name}.so"))
            .Where(File.Exists)
            .Select(path => (Bytes: File.ReadAllBytes(path), Target: Target.Of(path)))
            .ToList();
        var supplement = Path.Combine(RepositoryPaths.NativeFixtures, "symbols", "dwz", "shared.debug");
        if (File.Exists(supplement))
        {
            File.Copy(supplement, folder.File("shared.debug"));
        }

        var time = Stopwatch.StartNew();
        int round = 0, named = 0;
        long most = 0;
        for (; round < Rounds || time.Elapsed.TotalSeconds < seconds; round++)
        {
            var random = new Random(seed + round);
            var (original, target) = libraries[random.Next(libraries.Count)];
            var mutant = Mutated(original, target, random);
            File.WriteAllBytes(folder.File("mutant.so"), mutant);
            var run = Task.Run(() => Use(folder.File("mutant.so"), target, random));
            try
            {
                Assert.That(run.Wait(s_hang), Is.True, $"seed {seed}, round {round}: hangs");
            }
            catch (AggregateException e)
            {
                Assert.Fail($"seed {seed}, round {round}: {e.InnerException}");
            }

            Assert.That(run.Result.Allocated, Is.LessThan(MaxAllocatedBytes), $"seed {seed}, round {round}");
            most = Math.Max(most, run.Result.Allocated);
            named += run.Result.Named > 0 ? 1 : 0;
        }

        TestContext.Out.WriteLine($"{round} files in {time.Elapsed.TotalSeconds:f0} s; at most {most >> 20} MB allocated for one; {PeakMemory()}");
        Assert.That(named, Is.GreaterThan(round / 4), "mutants so broken that nothing of them was read prove nothing");
    }

    [Test]
    public void No_truncation_of_a_debug_file_does_harm()
    {
        using var folder = new TemporaryFolder();
        var path = SymbolLibraries.PathOf("plain", "symbols_c");
        var original = File.ReadAllBytes(path);
        var target = Target.Of(path);
        for (var length = 0; length < original.Length; length += length < 1024 ? 16 : 97)
        {
            File.WriteAllBytes(folder.File("mutant.so"), original[..length]);
            var run = Task.Run(() => Use(folder.File("mutant.so"), target, new Random(length)));
            Assert.That(run.Wait(s_hang), Is.True, $"length {length}");
        }
    }

    [TestCase("plain", 4UL << 30)]
    [TestCase("plain", ulong.MaxValue)]
    [TestCase("zlib", 4UL << 30)]
    public void Section_that_claims_more_than_there_is_takes_no_memory(string variant, ulong claim)
    {
        using var folder = new TemporaryFolder();
        var path = SymbolLibraries.PathOf(variant, "symbols_c");
        var bytes = File.ReadAllBytes(path);
        var target = Target.Of(path);
        var info = target.Sections.Single(section => section.Section.Name == ".debug_info");
        BinaryPrimitives.WriteUInt64LittleEndian(
            variant == "zlib" ? bytes.AsSpan((int)info.Section.Offset + 8) : bytes.AsSpan(info.HeaderAt + 0x20), claim);
        File.WriteAllBytes(folder.File("mutant.so"), bytes);

        using var symbols = NativeSymbols.Open(folder.File("mutant.so"), SymbolSettings.None);
        var before = GC.GetAllocatedBytesForCurrentThread();
        var frames = symbols.Find(symbols.AddressOf("counters_walk")!.Value);

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(8 << 20));
        Assert.That(frames, Is.EqualTo((SourceFrame[])[new SourceFrame("counters_walk", null, 0, false)]));
        Assert.That(symbols.Problems, Has.Some.Contains(".debug_info"));
    }

    private static (long Allocated, int Named) Use(string path, Target target, Random random)
    {
        var before = GC.GetAllocatedBytesForCurrentThread();
        using var symbols = NativeSymbols.Open(path, SymbolSettings.None);
        var named = 0;
        for (var i = 0; i < 60; i++)
        {
            var address = i < 50 ? target.Text + (ulong)random.NextInt64((long)target.TextBytes) : (ulong)random.NextInt64();
            named += symbols.Find(address).Count;
            _ = symbols.FunctionAt(address);
            _ = symbols.ImportAt(address);
            _ = symbols.CodeAt(address, 64).Length;
        }

        _ = symbols.AddressOf("counters_walk");
        _ = symbols.IsStripped;
        if (symbols.Problems.Count > 21)
        {
            throw new InvalidOperationException("problems without a bound");
        }

        return (GC.GetAllocatedBytesForCurrentThread() - before, named);
    }

    private static byte[] Mutated(byte[] original, Target target, Random random)
    {
        var file = (byte[])original.Clone();
        for (var count = random.Next(1, 24); count > 0; count--)
        {
            var (section, header) = target.Sections[random.Next(target.Sections.Count)];
            var at = (int)section.Offset + random.Next((int)Math.Min(section.Size, random.Next(2) == 0 ? 64UL : section.Size));
            switch (random.Next(9))
            {
                case 0:
                    file[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    file[at] = (byte)random.Next(256);
                    break;
                case 2:
                    // The values at which arithmetic breaks.
                    ulong[] edges = [0, 1, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff, long.MaxValue, 1UL << 63, ulong.MaxValue,
                        (ulong)file.Length, section.Size];
                    Write(file, at, edges[random.Next(edges.Length)], random.Next(2) == 0 ? 4 : 8);
                    break;
                case 3:
                    // An endless number.
                    file.AsSpan(at, Math.Min(random.Next(1, 40), file.Length - at)).Fill(0xff);
                    break;
                case 4:
                    // References of entries to each other, and to themselves.
                    Write(file, at, (ulong)Math.Max(at - (int)section.Offset - random.Next(8), 0), 4);
                    break;
                case 5:
                    // Bytes from elsewhere.
                    var length = Math.Min(random.Next(1, 200), file.Length - at);
                    original.AsSpan(random.Next(file.Length - length), length).CopyTo(file.AsSpan(at));
                    break;
                case 6 when random.Next(4) == 0:
                    // One section's header in place of another's.
                    var other = target.Sections[random.Next(target.Sections.Count)].HeaderAt;
                    original.AsSpan(other + 4, 60).CopyTo(file.AsSpan(header + 4));
                    break;
                case 7 when random.Next(4) == 0:
                    // A size or place in a section's header.
                    Write(file, header + (random.Next(2) == 0 ? 0x18 : 0x20), (ulong)random.NextInt64(2L * file.Length), 8);
                    break;
                case 8 when random.Next(20) == 0:
                    Array.Resize(ref file, random.Next(64, file.Length + 1));
                    return file;
            }
        }

        return file;
    }

    private static void Write(byte[] file, int at, ulong value, int bytes)
    {
        for (var i = 0; i < bytes && at + i < file.Length; i++)
        {
            file[at + i] = (byte)(value >> (8 * i));
        }
    }

    private static string PeakMemory() =>
        File.ReadLines("/proc/self/status").First(line => line.StartsWith("VmHWM", StringComparison.Ordinal));

    /// <summary>Where a library has what is mutated and asked for.</summary>
    private sealed record Target(ulong Text, ulong TextBytes, List<(ElfSection Section, int HeaderAt)> Sections)
    {
        public static Target Of(string path)
        {
            using var file = ElfFile.TryOpen(path, new MemoryAllowance(), new SymbolProblems())!;
            var headers = (int)BinaryPrimitives.ReadUInt64LittleEndian(File.ReadAllBytes(path).AsSpan(0x28));
            var text = file.Section(".text")!.Value;
            return new Target(
                text.Address,
                text.Size,
                [
                    .. file.Sections.Select((section, index) => (section, headers + (64 * index)))
                        .Where(pair => pair.section.Size > 0 && pair.section.Type != ElfSection.NoBits &&
                            (pair.section.Name.Contains("debug", StringComparison.Ordinal) ||
                             pair.section.Name is ".symtab" or ".strtab" or ".dynsym" or ".eh_frame" or ".eh_frame_hdr" or ".rela.plt" or
                                 ".note.gnu.build-id")),
                ]);
        }
    }
}
