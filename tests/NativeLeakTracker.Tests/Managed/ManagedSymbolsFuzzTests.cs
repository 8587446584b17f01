using System.Diagnostics;
using System.Globalization;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;
using NativeLeaks.Symbols;
using NativeLeaks.Symbols.Managed;
using AssemblyFile = NativeLeaks.Symbols.Managed.AssemblyFile;

namespace NativeLeaks.Tests.Managed;

/// <summary>
/// Damaged assemblies, PDBs and maps cost names and lines, and nothing else. NLT_FUZZ_SECONDS goes on for so long
/// (tests/prove/40-hostile-symbols.sh), NLT_FUZZ_SEED begins elsewhere.
/// </summary>
[TestFixture]
public sealed class ManagedSymbolsFuzzTests
{
    private const int Rounds = 150;
    private const int MaxMethods = 150;
    private static readonly TimeSpan s_hang = TimeSpan.FromSeconds(60);

    private static int Seconds => int.Parse(Environment.GetEnvironmentVariable("NLT_FUZZ_SECONDS") ?? "0", CultureInfo.InvariantCulture);

    private static int Seed => int.Parse(Environment.GetEnvironmentVariable("NLT_FUZZ_SEED") ?? "20261124", CultureInfo.InvariantCulture);

    [Test]
    public void No_mutation_of_an_assembly_or_its_pdb_does_harm()
    {
        using var folder = new TemporaryFolder();
        string program = RepositoryPaths.ChildProgram("StackSituations"), library = typeof(AssemblyFile).Assembly.Location;
        (string Path, byte[] Dll, byte[]? Pdb)[] originals =
        [
            (program, File.ReadAllBytes(program), File.ReadAllBytes(Path.ChangeExtension(program, ".pdb"))),
            (library, File.ReadAllBytes(library), null), // precompiled, its PDB embedded
        ];
        var time = Stopwatch.StartNew();
        int round = 0, named = 0, lines = 0;
        for (; round < Rounds || time.Elapsed.TotalSeconds < Seconds; round++)
        {
            var random = new Random(Seed + round);
            (string path, byte[] dll, byte[]? pdb) = originals[random.Next(originals.Length)];
            string copy = folder.File(Path.GetFileName(path));
            bool damagesPdb = pdb is not null && random.Next(2) == 0;
            File.WriteAllBytes(copy, damagesPdb ? dll : Mutated(dll, random));
            if (pdb is not null)
            {
                File.WriteAllBytes(Path.ChangeExtension(copy, ".pdb"), damagesPdb ? Mutated(pdb, random) : pdb);
            }

            var task = Task.Run(() => Read(copy, random));
            Assert.That(task.Wait(s_hang), Is.True, $"seed {Seed + round}: hangs");
            named += task.Result.Named;
            lines += task.Result.Lines;
        }

        TestContext.Out.WriteLine($"{round} files, {named} names, {lines} lines");
        Assert.That(lines, Is.Positive);
        Assert.That(named, Is.GreaterThan(Rounds), "nearly nothing was read: the damage is too great to prove anything");
    }

    [Test]
    public void No_map_of_any_bytes_does_harm()
    {
        var random = new Random(Seed);
        for (int round = 0; round < 100_000; round++)
        {
            byte[] map = new byte[random.Next(64)];
            random.NextBytes(map);
            IlRange range = IlMap.Find(map, (uint)random.Next(int.MaxValue));
            Assert.That(range.Offset, Is.GreaterThanOrEqualTo(-1));
            _ = IlCalls.List(map);
        }
    }

    [TestCase("fifo")]
    [TestCase("directory")]
    [TestCase("device")]
    [TestCase("link to itself")]
    [TestCase("empty")]
    [Platform("Linux")]
    public void What_is_no_file_is_no_assembly(string what)
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("a.dll");
        switch (what)
        {
            case "fifo":
                Assert.That(ChildProcess.Run("mkfifo", [path]).ExitCode, Is.Zero);
                break;
            case "directory":
                Directory.CreateDirectory(path);
                break;
            case "device":
                File.CreateSymbolicLink(path, "/dev/zero");
                break;
            case "link to itself":
                File.CreateSymbolicLink(path, path);
                break;
            default:
                File.WriteAllText(path, "");
                break;
        }

        Assert.That(AssemblyFile.Open(path, mvid: null), Is.Null);
    }

    [Test]
    public void Pdb_of_another_build_gives_no_line()
    {
        using var folder = new TemporaryFolder();
        string program = RepositoryPaths.ChildProgram("StackSituations"), other = RepositoryPaths.ChildProgram("StackSituationsUnoptimised");
        string copy = folder.File("StackSituations.dll");
        File.Copy(program, copy);
        File.Copy(program[..^4] + ".pdb", folder.File("StackSituations.pdb"));
        using AssemblyFile right = AssemblyFile.Open(copy, mvid: null)!;
        (int token, SourceLine? line) = FirstLine(right);
        Assert.That(line, Is.Not.Null);

        File.Copy(other[..^4] + ".pdb", folder.File("StackSituations.pdb"), overwrite: true);
        using AssemblyFile wrong = AssemblyFile.Open(copy, mvid: null)!;
        Assert.That(wrong.Lines(SymbolSettings.None).Find(token, 0), Is.Null);
    }

    [Test]
    public void File_of_another_version_names_nothing()
    {
        string program = RepositoryPaths.ChildProgram("StackSituations");
        using AssemblyFile? file = AssemblyFile.Open(program, mvid: null);
        Guid mvid = file!.Metadata!.GetGuid(file.Metadata.GetModuleDefinition().Mvid);

        Assert.That(AssemblyFile.Open(program, Guid.NewGuid()), Is.Null);
        using AssemblyFile? same = AssemblyFile.Open(program, mvid);
        Assert.That(same, Is.Not.Null);
    }

    private static (int Token, SourceLine? Line) FirstLine(AssemblyFile file)
    {
        for (int row = 1; row < file.Metadata!.GetTableRowCount(TableIndex.MethodDef); row++)
        {
            if (file.Lines(SymbolSettings.None).Find(0x06000000 | row, 0) is { } line)
            {
                return (0x06000000 | row, line);
            }
        }

        return (0, null);
    }

    private static (int Named, int Lines) Read(string path, Random random)
    {
        using AssemblyFile? file = AssemblyFile.Open(path, mvid: null);
        if (file?.Metadata is not { } metadata)
        {
            return (0, 0);
        }

        int named = 0, lines = 0;
        var references = new MethodReferences(_ => file);
        var elided = new ElidedMethods(references);
        int rows;
        try
        {
            rows = metadata.GetTableRowCount(TableIndex.MethodDef);
        }
        catch (BadImageFormatException)
        {
            return (0, 0);
        }

        for (int i = 0; i < MaxMethods && rows > 0; i++)
        {
            int row = random.Next(rows) + 1;
            named += MetadataNames.Describe(metadata, row) is null ? 0 : 1;
            lines += file.Lines(SymbolSettings.None).Find(0x06000000 | row, random.Next(200)) is null ? 0 : 1;
            _ = IlMap.Find(file.IlMapOf((uint)random.Next(1 << 20)), (uint)random.Next(1000));
            var method = new MethodKey(file, row);
            _ = elided.Between(method, new IlRange(0, int.MaxValue), new MethodKey(file, random.Next(rows) + 1));
            _ = elided.BeforeNative(method, new IlRange(0, int.MaxValue), "malloc");
        }

        return (named, lines);
    }

    private static byte[] Mutated(byte[] original, Random random)
    {
        byte[] bytes = random.Next(10) == 0 ? original[..random.Next(original.Length)] : (byte[])original.Clone();
        int changes = 1 << random.Next(9);
        for (int i = 0; i < changes && bytes.Length > 8; i++)
        {
            int at = random.Next(bytes.Length - 8);
            switch (random.Next(4))
            {
                case 0:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    BitConverter.TryWriteBytes(bytes.AsSpan(at), random.Next(4) == 0 ? uint.MaxValue : (uint)random.Next());
                    break;
                case 2:
                    bytes.AsSpan(at, 8).Fill((byte)(random.Next(2) * 0xff));
                    break;
                default:
                    bytes.AsSpan(random.Next(bytes.Length - 8), 8).CopyTo(bytes.AsSpan(at));
                    break;
            }
        }

        return bytes;
    }
}
