using System.Runtime.Versioning;

namespace NativeLeaks.Tests.Hazards;

/// <summary>Other processes: those that a tracked program starts, and those whose rights are not its user's.</summary>
[TestFixture]
[SupportedOSPlatform("linux")]
public sealed class ProcessTests
{
    // Every one is a vfork: for a moment, two processes run in the same memory.
    [Test]
    public void Process_Start_while_other_threads_allocate(
        [ValueSource(typeof(HazardRun), nameof(HazardRun.Starts))] string start)
    {
        var report = HazardRun.Report(start, "start-processes", "100");

        // Four threads keep a tenth of 50,000 blocks each: of 1,000, 1,001, 1,002 and 1,003 bytes.
        Assert.That(
            JsonReportFile.Sum(WorkersTests.OfWorkers(report)), Is.EqualTo((20_000, 5_000 * 4_006L)), report.DescribeLeaks());
    }

    [Test]
    public void Waitpid_and_SIGCHLD_never_show_a_child_that_is_not_the_programs(
        [ValueSource(typeof(HazardRun), nameof(HazardRun.Starts))] string start)
    {
        var report = HazardRun.Report(start, "no-children");

        Assert.That(report.Leaks, Is.Empty, report.DescribeLeaks());
    }

    [Test]
    public void Waitpid_and_SIGCHLD_show_the_programs_own_children_and_no_others()
    {
        using var folder = new TemporaryFolder();
        var run = ChildProcess.Run(
            HazardRun.Fixture("own_children"), [], ChildProcess.Preload, ("NATIVELEAKS_LEDGER", folder.File("ledger")));

        Assert.That(
            (run.ExitCode, run.Output, run.Error), Is.EqualTo((7, "own 20, foreign 0, foreign signals 0, no more\n", "")));
    }

    // The dynamic linker does not even load it: it lies in none of the system's folders (ld.so(8), secure-execution mode).
    [Test]
    public void Setuid_program_runs_without_the_shim()
    {
        Machine.RequireRoot();
        using var folder = new TemporaryFolder();

        var run = RunAsNobody(folder, "setuid", RepositoryPaths.Shim);

        Assert.That(
            (run.ExitCode, run.Output), Is.EqualTo((7, "secure 1, user 65534, rights of 0, shim absent\n")), run.Error);
        Assert.That(folder.Files, Is.EquivalentTo((string[])["setuid"]));
    }

    // An administrator can make the linker load it: a copy that is set-user-ID itself, in one of the system's folders.
    [Test]
    public void Setuid_program_into_which_the_shim_is_loaded_all_the_same_is_not_recorded()
    {
        const string Borrowed = "/usr/lib/x86_64-linux-gnu/libpcprofile.so";
        Machine.RequireRoot();
        if (!File.Exists(Borrowed))
        {
            Assert.Ignore($"There is no {Borrowed} in whose place the shim could be mounted.");
        }

        using var folder = new TemporaryFolder();
        MakeSetuidCopy(folder, "setuid");
        string shim = folder.File("shim");
        File.Copy(RepositoryPaths.Shim, shim);
        File.SetUnixFileMode(shim, UnixFileMode.SetUser | (UnixFileMode)0b111_101_101);

        var run = Machine.RunInOwnMounts(
            $"mount --bind \"$1\" {Borrowed}; shift; exec \"$@\"",
            [shim, .. AsNobody(folder, "setuid", Path.GetFileName(Borrowed))]);

        Assert.That(
            (run.ExitCode, run.Output), Is.EqualTo((7, "secure 1, user 65534, rights of 0, shim loaded\n")), run.Error);
        Assert.That(folder.Files, Is.EquivalentTo((string[])["setuid", "shim"]));
    }

    private static ChildResult RunAsNobody(TemporaryFolder folder, string name, string preload)
    {
        MakeSetuidCopy(folder, name);
        string[] command = AsNobody(folder, name, preload);
        return ChildProcess.Run(command[0], command[1..]);
    }

    // Its folder may be written by everybody: what could be written would be.
    private static void MakeSetuidCopy(TemporaryFolder folder, string name)
    {
        File.SetUnixFileMode(folder.File("."), (UnixFileMode)0b111_111_111);
        File.Copy(HazardRun.Fixture("own_rights"), folder.File(name));
        File.SetUnixFileMode(folder.File(name), UnixFileMode.SetUser | (UnixFileMode)0b111_101_101);
    }

    private static string[] AsNobody(TemporaryFolder folder, string name, string preload) =>
    [
        Machine.Tool("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups",
        Machine.Tool("env"),
        "LD_PRELOAD=" + preload, "NATIVELEAKS_STATS=" + folder.File("stats"), "NATIVELEAKS_LEDGER=" + folder.File("ledger"),
        folder.File(name),
    ];
}
