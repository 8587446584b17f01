namespace NativeLeaks.Tests;

/// <summary>
/// What the framework makes once, for good, fails no assertion, about growth or about leaks, although the process uses it for the first time;
/// a forgotten block does, whatever stands beside it. tests/fixtures/FrameworkUse, a process for each.
/// </summary>
[TestFixture]
[Parallelizable(ParallelScope.Self)]
public sealed class FrameworkUseTests
{
    private const string Fixture = "FrameworkUse";

    private static readonly string[] s_uses =
    [
        "x509", "rsa", "aesgcm", "sslstream", "brotli", "gzip", "process", "sockets", "dns", "culture", "regex", "expression", "watcher", "http",
    ];

    [Test]
    public void Framework_that_is_used_correctly_does_not_grow([ValueSource(nameof(s_uses))] string use)
    {
        ChildResult run = ChildProcess.RunManaged(Fixture, [use]);

        Assert.That((run.ExitCode, run.Output, run.Error), Is.EqualTo((0, "", "")));
    }

    [Test]
    public void Framework_that_is_used_once_and_disposed_leaks_nothing([ValueSource(nameof(s_uses))] string use)
    {
        ChildResult run = ChildProcess.RunManaged(Fixture, [use, "once"]);

        Assert.That((run.ExitCode, run.Output, run.Error), Is.EqualTo((0, "", "")));
    }

    [Test]
    public void One_block_beside_a_single_use_is_found([ValueSource(nameof(s_uses))] string use)
    {
        ChildResult run = ChildProcess.RunManaged(Fixture, [use, "once", "leak"]);

        Assert.That(run.ExitCode, Is.EqualTo(1), run.Output + run.Error);
        Assert.That(run.Output, Does.StartWith("1 native leak: 1 block, 4,321 bytes"));
        Assert.That(run.Output, Does.Contain("Forget"));
    }

    [Test]
    public void One_block_a_round_is_found_beside_it([ValueSource(nameof(s_uses))] string use)
    {
        ChildResult run = ChildProcess.RunManaged(Fixture, [use, "leak"]);

        Assert.That(run.ExitCode, Is.EqualTo(1), run.Output + run.Error);
        Assert.That(run.Output, Does.StartWith("1 native leak: 5 blocks, 21,605 bytes"));
        Assert.That(run.Output, Does.Contain("Forget"));
    }
}
