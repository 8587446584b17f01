namespace NativeLeaks.Tests.Hazards;

/// <summary>Programs whose malloc is not libc's.</summary>
[TestFixture]
public sealed class OtherAllocatorTests
{
    private const int Rounds = 5000;

    private static readonly (string File, string Package)[] s_allocators =
    [
        ("libjemalloc.so.2", "libjemalloc2"),
        ("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
        ("libmimalloc.so.2", "libmimalloc2.0"),
    ];

    public static IEnumerable<TestCaseData> Preloads =>
    [
        new TestCaseData(null, null).SetArgDisplayNames("libc"),
        .. s_allocators.Select(static a => new TestCaseData(a.File, a.Package).SetArgDisplayNames(a.File)),
    ];

    // Without headers, an allocator puts up to four such blocks into the 32 bytes of one live word.
    [TestCaseSource(nameof(Preloads))]
    public void Blocks_of_1_to_24_bytes_are_counted_exactly(string? file, string? package)
    {
        var counted = HazardRun.CountRounds(Preload(file, package), "close_blocks", Rounds);

        AssertCounted(counted, liveBlocks: 16, liveBytes: 201);
        Assert.That(counted("allocations"), Is.EqualTo(25 * Rounds));
    }

    [TestCaseSource(nameof(Preloads))]
    public void All_forms_of_operator_new_and_delete_are_counted_exactly(string? file, string? package)
    {
        if (!File.Exists(HazardRun.Fixture("operators")))
        {
            Assert.Ignore("There was no C++ compiler when the fixtures were built.");
        }

        var counted = HazardRun.CountRounds(Preload(file, package), "operators", Rounds);

        AssertCounted(counted, liveBlocks: 8, liveBytes: 9 + 17 + 25 + 33 + 64 + 128 + 56 + 192);
        Assert.That(counted("allocations"), Is.EqualTo(16 * Rounds));
    }

    // A jemalloc that is linked statically looks like this. The program's own calls pass by everything that could be preloaded.
    [Test]
    public void Program_with_a_malloc_of_its_own_runs_unharmed_and_what_libc_allocates_for_it_is_seen()
    {
        var plain = ChildProcess.Run(HazardRun.Fixture("own_malloc"), [$"{Rounds}"]);
        var preloaded = ChildProcess.Run(HazardRun.Fixture("own_malloc"), [$"{Rounds}"], ChildProcess.Preload);
        Assert.That(preloaded with { Pid = 0 }, Is.EqualTo(plain with { Pid = 0 }));

        var counted = HazardRun.CountRounds(RepositoryPaths.Shim, "own_malloc", Rounds);

        Assert.That((counted("allocations"), counted("allocatedBytes")), Is.EqualTo((2L * Rounds, 40L * Rounds)));
        Assert.That((counted("dropped"), counted("brokenStacks")), Is.EqualTo((0L, 0L)));
    }

    [Test]
    public void Ledger_names_the_program_whose_malloc_is_followed()
    {
        using var folder = new TemporaryFolder();
        ChildProcess.Run(
            HazardRun.Fixture("own_malloc"), ["1"], ChildProcess.Preload, ("NATIVELEAKS_LEDGER", folder.File("ledger")));

        using var ledger = new SharedLedgerFile(folder.File("ledger"));
        Assert.That(ledger.Allocator, Does.EndWith("own_malloc"));
    }

    private static string Preload(string? file, string? package) =>
        file is null ? RepositoryPaths.Shim : $"{RepositoryPaths.Shim}:{Machine.Library(file, package!)}";

    private static void AssertCounted(Func<string, long> counted, int liveBlocks, int liveBytes)
    {
        Assert.That(
            (counted("liveBlocks"), counted("liveBytes")), Is.EqualTo(((long)liveBlocks * Rounds, (long)liveBytes * Rounds)));
        foreach (string loss in (string[])["dropped", "missedFrees", "truncated", "approximateStacks", "brokenStacks"])
        {
            Assert.That(counted(loss), Is.Zero, loss);
        }
    }
}
