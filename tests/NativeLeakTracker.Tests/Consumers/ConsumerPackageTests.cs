namespace NativeLeaks.Tests.Consumers;

/// <summary>
/// The package as its users meet it: tests/consumer knows the tracker only as a packed package. Some of its tests
/// must fail; here is asserted which, and with what message.
/// </summary>
[TestFixture]
public sealed class ConsumerPackageTests
{
    // The test of the consumer, and what else than its own name the report must contain.
    private static readonly object[][] s_leaking =
    [
        // Marshal.AllocHGlobal jumps to NativeMemory.Alloc; its frame is put back, and the message shows it as the call.
        ["AllocHGlobal_forgotten", new[] { "1 block", "321 bytes", "Marshal.AllocHGlobal", "Marshal.FreeHGlobal" }],
        ["NativeMemory_Alloc_forgotten", new[] { "1 block", "321 bytes", "NativeMemory.Alloc" }],
        ["StringToCoTaskMemUTF8_forgotten", new[] { "1 block", "Marshal.StringToCoTaskMemUTF8" }],
        ["Sqlite_allocation_forgotten", new[] { "1 block", "libe_sqlite3.so" }],
    ];

    private static readonly string[] s_passing =
    [
        "AllocHGlobal_freed",
        "NativeMemory_Alloc_freed",
        "StringToCoTaskMemUTF8_freed",
        "Sqlite_allocation_freed",
        "Libc_malloc_kept_300_times_is_300_leaks",
        "Libc_free_of_1000_native_blocks_leaves_none",
        "Libc_malloc_bound_before_Start_and_kept_300_times_is_300_leaks",
        "Libc_free_bound_before_Start_of_1000_native_blocks_leaves_none",
    ];

    private Dictionary<string, ConsumerResult> _results = [];

    [OneTimeSetUp]
    public void Run_the_consumer()
    {
        using var consumer = new ConsumerRun("consumer");
        _results = consumer.Test();
    }

    [TestCaseSource(nameof(s_leaking))]
    public void Leaking_test_fails_and_names_itself(string test, string[] parts)
    {
        var result = _results[test];

        Assert.That(result.Outcome, Is.EqualTo("Failed"));
        Assert.That(result.Message, Does.Contain("NativeLeakException").And.Contain($"{test}()"));
        foreach (var part in parts)
        {
            Assert.That(result.Message, Does.Contain(part));
        }
    }

    [TestCaseSource(nameof(s_passing))]
    public void Test_passes(string test)
    {
        var result = _results[test];

        Assert.That(result.Outcome, Is.EqualTo("Passed"), result.Message);
    }

    [Test]
    public void No_test_of_the_consumer_is_left_unjudged() =>
        Assert.That(_results.Keys, Is.EquivalentTo(s_leaking.Select(row => row[0]).Concat(s_passing)));
}
