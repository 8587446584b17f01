using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using NativeLeaks.Ledger;
using NativeLeaks.Tests.Hazards;

namespace NativeLeaks.Tests.Ledger;

/// <summary>The library's own reader over the ledger of another process: blocks, stacks and modules are what the program made.</summary>
[TestFixture]
[SupportedOSPlatform("linux")]
public sealed class LedgerFileTests
{
    private const int Kept = 1000;
    private const int Size = 200;

    // A size that nothing in .NET asks for.
    private const int ManagedSize = 237;
    private TemporaryFolder _folder = null!;

    private string Path => _folder.File("ledger");

    [SetUp]
    public void Create_the_folder() => _folder = new TemporaryFolder();

    [TearDown]
    public void Remove_the_folder() => _folder.Dispose();

    [Test]
    public void Blocks_stacks_and_modules_of_a_native_program_while_it_lives_and_after_SIGKILL()
    {
        string fixture = HazardRun.Fixture("kept_blocks");
        using var program = RunningProgram.Start(fixture, [$"{Kept}", "wait"], Shared());
        AssertHoldsNative(fixture, program.Pid);

        program.Kill();
        AssertHoldsNative(fixture, program.Pid);
    }

    // Of each round 100 and 64 bytes stay, and the one block that was resized, to 1,000 bytes; each thread its own.
    [Test]
    public void Known_allocations_of_threads_have_their_sizes_and_one_stack_for_each_place()
    {
        const int Rounds = 50, Threads = 3;
        ChildResult run = ChildProcess.Run(
            HazardRun.Fixture("known_allocations"), [$"{Rounds}", "9", $"{Threads}", "_exit"], Shared());
        Assert.That((run.ExitCode, run.Error), Is.EqualTo((7, "")));

        using LedgerFile file = LedgerFile.Open(Path);
        ReadBlocks blocks = ReadBlocks.Of(file.Ledger);
        foreach ((long size, int count) in (ReadOnlySpan<(long, int)>)[(100, Rounds * Threads), (64, Rounds * Threads), (1000, Threads)])
        {
            List<LiveBlock> same = [.. blocks.All.Where(block => block.SizeBytes == size)];
            Assert.That(same, Has.Count.EqualTo(count), $"{size} bytes");
            Assert.That(same.Select(static block => block.Context).Distinct().Count(), Is.EqualTo(1), $"{size} bytes");
            Assert.That(same.Select(static block => block.Address).Distinct().Count(), Is.EqualTo(count));
            Assert.That(same.Select(static block => block.Address % 8), Is.All.Zero);
        }

        Assert.That(blocks.All, Has.Count.EqualTo(LiveCount(file.Ledger)));
    }

    [Test]
    public void Blocks_and_managed_frames_of_a_dotnet_program_while_it_lives_and_after_SIGKILL(
        [ValueSource(typeof(HazardRun), nameof(HazardRun.Starts))] string start)
    {
        using var program = RunningProgram.StartManaged(
            ["keep-and-wait", _folder.File("report.json"), $"{Kept}"],
            [.. HazardRun.Environment(start), ("NATIVELEAKS_LEDGER", Path)]);
        AssertHoldsManaged(program.Pid);

        program.Kill();
        AssertHoldsManaged(program.Pid);

        // Nothing changes any more. Of each of the runtime's threads, the last event may be in one of the two and not yet in the other.
        using LedgerFile file = LedgerFile.Open(Path);
        Assert.That(ReadBlocks.Of(file.Ledger).All, Has.Count.EqualTo(LiveCount(file.Ledger)).Within(20));
    }

    [Test]
    public void What_is_recorded_after_the_file_was_opened_is_seen_with_its_stacks()
    {
        using var program = RunningProgram.StartManaged(
            ["wait-and-keep", _folder.File("report.json"), $"{Kept}"],
            [ChildProcess.Preload, ("NATIVELEAKS_LEDGER", Path)]);
        using LedgerFile file = LedgerFile.Open(Path);
        int contexts = file.Ledger.Contexts.Length;
        Assert.That(ReadBlocks.Of(file.Ledger).All.Count(static block => block.SizeBytes == ManagedSize), Is.Zero);
        program.Finish();

        LiveBlock[] kept = [.. ReadBlocks.Of(file.Ledger).All.Where(static block => block.SizeBytes == ManagedSize)];
        Assert.That(kept, Has.Length.EqualTo(Kept));
        Assert.That(kept.Select(block => file.Ledger.Chain(block.Context).ReachesRoot), Is.All.True);
        Assert.That(file.Ledger.Contexts.Length, Is.GreaterThan(contexts));
    }

    // What a tmpfs holds is memory: a reader that makes pages of holes takes it from the program.
    [Test]
    public void Reading_makes_no_pages()
    {
        const string Memory = "/dev/shm";
        if (!Directory.Exists(Memory))
        {
            Assert.Ignore($"There is no {Memory} here.");
        }

        string path = System.IO.Path.Combine(Memory, $"nativeleaks-test-{Guid.NewGuid():n}");
        try
        {
            ChildProcess.Run(HazardRun.Fixture("kept_blocks"), [$"{Kept}", "return"], ChildProcess.Preload, ("NATIVELEAKS_LEDGER", path));
            string before = BlocksOf(path);
            using LedgerFile file = LedgerFile.Open(path);
            Assert.That(ReadBlocks.Of(file.Ledger).All, Is.Not.Empty);
            EverythingIn.Read(file.Ledger);

            Assert.That(BlocksOf(path), Is.EqualTo(before));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [TestCase("pipe")]
    [TestCase("link to a pipe")]
    [TestCase("device")]
    [TestCase("folder")]
    public void What_is_no_file_is_refused_at_once(string what)
    {
        string pipe = _folder.File("pipe"), path = Path;
        switch (what)
        {
            case "pipe":
                path = MakePipe(pipe);
                break;
            case "link to a pipe":
                File.CreateSymbolicLink(path, MakePipe(pipe));
                break;
            case "device":
                path = "/dev/zero";
                break;
            default:
                Directory.CreateDirectory(path);
                break;
        }

        Assert.That(() => LedgerFile.Open(path), Throws.TypeOf<InvalidDataException>().With.Message.Contains("regular file"));
    }

    [Test]
    public void Missing_file_is_named() =>
        Assert.That(() => LedgerFile.Open(Path), Throws.TypeOf<FileNotFoundException>().With.Message.Contains(Path));

    [TestCase("", "not a ledger")]
    [TestCase("something else, and more than the six hundred and eighty bytes", "not a ledger")]
    public void File_that_is_no_ledger_is_refused_with_what_to_do(string content, string reason)
    {
        File.WriteAllText(Path, content);

        Assert.That(
            () => LedgerFile.Open(Path),
            Throws.TypeOf<InvalidDataException>().With.Message.Contains(reason).And.Message.Contains("NATIVELEAKS_LEDGER"));
    }

    [TestCase(nameof(LedgerHeader.Version), 99, "version 99")]
    [TestCase(nameof(LedgerHeader.HeaderBytes), 100, "header has 100 bytes")]
    [TestCase(nameof(LedgerHeader.SizeBytes), -1, "tables would have")]
    [TestCase(nameof(LedgerHeader.SharedBytes), -1, "bytes were written")]
    public void Damaged_header_is_refused_with_what_to_do(string field, long value, string reason)
    {
        Record();
        int size = field is nameof(LedgerHeader.Version) or nameof(LedgerHeader.HeaderBytes) ? 4 : 8;
        Overwrite(Marshal.OffsetOf<LedgerHeader>(field), BitConverter.GetBytes(value).AsSpan(0, size));

        Assert.That(() => LedgerFile.Open(Path), Throws.TypeOf<InvalidDataException>().With.Message.Contains(reason));
    }

    [Test]
    public void Table_that_lies_outside_or_upon_another_is_refused([Values("outside", "wrapped", "larger entries")] string how)
    {
        Record();
        byte[] whole = ReadHeader();
        foreach (TableId id in Enum.GetValues<TableId>())
        {
            Overwrite(0, whole);
            Damage(Descriptor(id), how);
            Assert.That(
                () => LedgerFile.Open(Path),
                Throws.TypeOf<InvalidDataException>().With.Message.Contains("damaged").And.Message.Contains(Path),
                $"{id}");
        }
    }

    private void Damage(nint descriptor, string how)
    {
        switch (how)
        {
            case "outside":
                Overwrite(descriptor, BitConverter.GetBytes(1UL << 40));
                break;
            case "wrapped":
                Overwrite(descriptor, BitConverter.GetBytes(ulong.MaxValue - 8));
                break;
            default:
                Overwrite(descriptor + sizeof(ulong), BitConverter.GetBytes(1 << 20));
                break;
        }
    }

    [Test]
    public void Count_beyond_the_capacity_gives_what_was_written()
    {
        Record();
        List<LiveBlock> before = Blocks();
        foreach (TableId id in Enum.GetValues<TableId>())
        {
            Overwrite(Descriptor(id) + 16, BitConverter.GetBytes(uint.MaxValue));
        }

        Assert.That(Blocks(), Is.EqualTo(before));
    }

    [Test]
    public void File_that_is_cut_short_while_it_is_read_costs_blocks_and_no_signal()
    {
        Record();
        using LedgerFile file = LedgerFile.Open(Path);
        Assert.That(ReadBlocks.Of(file.Ledger).All, Is.Not.Empty);
        using (var cut = new FileStream(Path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            cut.SetLength(Unsafe.SizeOf<LedgerHeader>());
        }

        Assert.That(ReadBlocks.Of(file.Ledger).All, Is.Empty);
        EverythingIn.Read(file.Ledger);
        Assert.That(() => LedgerFile.Open(Path), Throws.TypeOf<InvalidDataException>().With.Message.Contains("bytes were written"));
    }

    [Test]
    public void Chunks_that_name_the_same_part_of_the_file_are_read_once_and_counted()
    {
        Record();
        int blocks = Blocks().Count;
        (nint table, ChunkEntry[] chunks) = Table<ChunkEntry>(TableId.Chunks);
        ChunkEntry real = chunks.First(static chunk => chunk.Words != 0);
        ChunkEntry[] many = [.. Enumerable.Repeat(real, 200_000)];
        Overwrite(table, MemoryMarshal.AsBytes(many.AsSpan()));
        Overwrite(Descriptor(TableId.Chunks) + 16, BitConverter.GetBytes(many.Length));

        using LedgerFile file = LedgerFile.Open(Path);
        Assert.That(ReadBlocks.Of(file.Ledger).All, Has.Count.LessThanOrEqualTo(blocks).And.Not.Empty);
        Assert.That(file.Ledger.Chunks.ToArray().Count(static chunk => chunk.Words != 0), Is.EqualTo(1));
        Assert.That(file.DamagedChunks, Is.EqualTo(many.Length - 1));
    }

    [Test]
    public void Stack_that_leads_back_into_itself_ends_and_says_so()
    {
        Record();
        LiveBlock block = Blocks().First(static block => block.SizeBytes == Size);
        (nint table, _) = Table<ContextEntry>(TableId.Contexts);
        nint parent = Marshal.OffsetOf<ContextEntry>(nameof(ContextEntry.Parent));
        Overwrite(table + (nint)(block.Context * Unsafe.SizeOf<ContextEntry>()) + parent, BitConverter.GetBytes(block.Context));

        using LedgerFile file = LedgerFile.Open(Path);
        ContextChain chain = file.Ledger.Chain(block.Context);
        Assert.That((chain.ReachesRoot, chain.Contexts.Count), Is.EqualTo((false, 4096)));
    }

    [Test]
    public void Ids_that_are_in_no_table_are_empty_entries()
    {
        Record();
        using LedgerFile file = LedgerFile.Open(Path);
        LedgerReader ledger = file.Ledger;

        Assert.That(ledger.Context(uint.MaxValue), Is.EqualTo(default(ContextEntry)));
        Assert.That(ledger.Module(uint.MaxValue), Is.EqualTo(default(ModuleEntry)));
        Assert.That(ledger.Code(uint.MaxValue), Is.EqualTo(default(CodeEntry)));
        Assert.That(ledger.Text(uint.MaxValue), Is.Empty);
        Assert.That(ledger.Chain(uint.MaxValue), Has.Property(nameof(ContextChain.ReachesRoot)).False);
    }

    private (string Name, string Value)[] Shared() => [ChildProcess.Preload, ("NATIVELEAKS_LEDGER", Path)];

    private void Record()
    {
        ChildResult run = ChildProcess.Run(HazardRun.Fixture("kept_blocks"), [$"{Kept}", "return"], Shared());
        Assert.That((run.ExitCode, run.Error), Is.EqualTo((7, "")));
    }

    private List<LiveBlock> Blocks()
    {
        using LedgerFile file = LedgerFile.Open(Path);
        return ReadBlocks.Of(file.Ledger).All;
    }

    private void AssertHoldsNative(string program, int pid)
    {
        using LedgerFile file = LedgerFile.Open(Path);
        LedgerReader ledger = file.Ledger;
        ReadBlocks blocks = ReadBlocks.Of(ledger);
        Assert.That(ledger.Header.Pid, Is.EqualTo(pid));
        Assert.That(blocks.All, Has.Count.EqualTo(LiveCount(ledger)));
        Assert.That(file.DamagedChunks, Is.Zero);

        LiveBlock[] kept = [.. blocks.All.Where(static block => block.SizeBytes == Size)];
        Assert.That(kept, Has.Length.EqualTo(Kept));
        ContextChain chain = ledger.Chain(kept.Select(static block => block.Context).Distinct().Single());
        Assert.That(chain.ReachesRoot, Is.True);
        Assert.That(chain.Contexts.Select(id => ledger.Context(id).Kind), Is.All.EqualTo(NodeKind.Native));
        string[] modules = [.. chain.Contexts.Select(id => ledger.Text(ledger.Module(ledger.Context(id).Object).Path))];
        Assert.That(modules[0], Is.EqualTo(program));
        Assert.That(System.IO.Path.GetFileName(modules[^2]), Does.StartWith("libc"), string.Join('\n', modules));
        Assert.That(modules[^1], Is.EqualTo(program), "the program's own _start");
        Assert.That(System.IO.Path.GetFileName(ledger.Text(ledger.Header.Allocator)), Does.StartWith("libc"));
    }

    private void AssertHoldsManaged(int pid)
    {
        using LedgerFile file = LedgerFile.Open(Path);
        LedgerReader ledger = file.Ledger;
        ReadBlocks blocks = ReadBlocks.Of(ledger);
        Assert.That(ledger.Header.Pid, Is.EqualTo(pid));
        LiveBlock[] kept = [.. blocks.All.Where(static block => block.SizeBytes == ManagedSize)];
        Assert.That(kept, Has.Length.EqualTo(Kept));

        // A few, when the method's code changes meanwhile: it is compiled again while it loops.
        foreach (ContextChain chain in kept.Select(static block => block.Context).Distinct().Select(ledger.Chain))
        {
            Assert.That(chain.ReachesRoot, Is.True);
            CodeEntry[] codes =
            [
                .. chain.Contexts.Select(id => ledger.Context(id)).Where(static node => node.Kind == NodeKind.Managed)
                    .Select(node => ledger.Code(node.Object)),
            ];
            Assert.That(codes.Count(static code => code.Kind == CodeKind.Jit), Is.AtLeast(4), "Keep, RunAndWait, Tracked, Main");
            Assert.That(codes.Where(static code => code.Kind != CodeKind.Stub).Select(static code => code.Method), Is.All.Not.Zero);
        }

        string[] modules = [.. ledger.Modules.ToArray().Where(static module => module.Start != 0).Select(module => ledger.Text(module.Path))];
        Assert.That(modules.Select(static path => System.IO.Path.GetFileName(path)), Has.Member("libcoreclr.so"));
    }

    private static long LiveCount(LedgerReader ledger)
    {
        CaptureCounters counters = ledger.SumCounters();
        return counters.AllocatedBlocks - counters.FreedBlocks;
    }

    private (nint Place, T[] Entries) Table<T>(TableId id)
        where T : unmanaged
    {
        using LedgerFile file = LedgerFile.Open(Path);
        object entries = id == TableId.Chunks ? file.Ledger.Chunks.ToArray() : file.Ledger.Contexts.ToArray();
        return ((nint)file.Ledger.Header.Tables[(int)id].OffsetBytes, (T[])entries);
    }

    private static nint Descriptor(TableId id) =>
        Marshal.OffsetOf<LedgerHeader>(nameof(LedgerHeader.Tables)) + ((int)id * Unsafe.SizeOf<TableEntry>());

    private byte[] ReadHeader()
    {
        var bytes = new byte[Unsafe.SizeOf<LedgerHeader>()];
        using var file = new FileStream(Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        file.ReadExactly(bytes);
        return bytes;
    }

    private void Overwrite(nint offset, ReadOnlySpan<byte> bytes)
    {
        using var file = new FileStream(Path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        file.Position = offset;
        file.Write(bytes);
    }

    private static string MakePipe(string path)
    {
        Assert.That(ChildProcess.Run("mkfifo", [path]).ExitCode, Is.Zero);
        return path;
    }

    private static string BlocksOf(string path) => ChildProcess.Run("stat", ["--format=%b", path]).Output;
}
