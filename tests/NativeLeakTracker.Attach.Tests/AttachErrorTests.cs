using System.Diagnostics;
using System.Runtime.Versioning;
using NativeLeaks.Tests;
using NativeLeaks.Tests.Hazards;

namespace NativeLeaks.Attach.Tests;

/// <summary>What cannot be attached to is refused in one line that says what to do.</summary>
[TestFixture]
[SupportedOSPlatform("linux")]
public sealed class AttachErrorTests
{
    [TestCase(0)]
    [TestCase(-1)]
    [TestCase(int.MaxValue)]
    public void Process_that_does_not_exist(int pid) => AssertRefused(() => AttachedProcess.Open(pid), "no process");

    [Test]
    public void This_process_itself() => AssertRefused(() => AttachedProcess.Open(Environment.ProcessId), "cannot attach to itself");

    [Test]
    public void Process_that_is_not_of_NET()
    {
        using Process sleeping = Process.Start("sleep", ["100"]);
        try
        {
            AssertRefused(() => AttachedProcess.Open(sleeping.Id), "no .NET process");
        }
        finally
        {
            sleeping.Kill();
            sleeping.WaitForExit();
        }
    }

    [TestCase(AttachedProcess.ClrMd)]
    [TestCase(AttachedProcess.Rundown)]
    public void Process_that_ends_while_it_is_looked_into_costs_names_only(string source)
    {
        using AttachTarget target = AttachTarget.Start();
        using AttachedProcess process = AttachedProcess.Open(target.Pid, null, source);
        target.Kill();

        foreach (ulong address in target.Notes.SelectMany(static note => note.Addresses))
        {
            Assert.DoesNotThrow(() => process.ManagedCode.Find(address - 1));
        }
    }

    [Test]
    public void Runtime_that_gives_no_answer_in_time()
    {
        using AttachTarget target = AttachTarget.Start();
        ChildProcess.Run("kill", ["-STOP", $"{target.Pid}"]);

        AssertRefused(() => AttachedProcess.Open(target.Pid, TimeSpan.FromSeconds(1), AttachedProcess.Rundown), "no answer within 1 s");

        // Memory can be read all the same.
        using AttachedProcess process = AttachedProcess.Open(target.Pid);
        Assert.That(process.Source, Is.EqualTo(AttachedProcess.ClrMd));
        Assert.That(process.ManagedCode.Find(target.Notes[0].Addresses[^1]), Is.Null);
    }

    // Its diagnostics are off: nobody may ask it, but whoever may read its memory need not.
    [Test]
    public void Runtime_without_a_diagnostics_port_is_read_and_cannot_be_asked()
    {
        using var folder = new TemporaryFolder();
        using var program = RunningProgram.Start(
            ChildProcess.DotnetHost,
            [RepositoryPaths.ChildProgram("AttachTarget"), RepositoryPaths.Shim, folder.File("notes.json")],
            ("DOTNET_EnableDiagnostics", "0"));

        using AttachedProcess process = AttachedProcess.Open(program.Pid);
        Assert.That(process.Source, Is.EqualTo(AttachedProcess.ClrMd));
        AssertRefused(() => AttachedProcess.Open(program.Pid, null, AttachedProcess.Rundown), "DOTNET_EnableDiagnostics=0");
    }

    // Its library would run with our rights. Root may give it away; others cannot make such a file.
    [Test]
    public void Runtime_that_another_user_put_there_is_not_loaded()
    {
        string runtime = Path.Combine(System.Runtime.InteropServices.RuntimeEnvironment.GetRuntimeDirectory(), "libcoreclr.so");
        Assert.That(TrustedRuntime.MayBeLoadedFrom(runtime), Is.True);
        if (!Environment.IsPrivilegedProcess)
        {
            Assert.Ignore("Only root can give a file to another user.");
        }

        using var folder = new TemporaryFolder();
        string reader = folder.File("libmscordaccore.so"), other = folder.File("libcoreclr.so");
        Assert.That(TrustedRuntime.MayBeLoadedFrom(other), Is.False, "nothing is there");
        File.WriteAllText(reader, "");
        Assert.That(TrustedRuntime.MayBeLoadedFrom(other), Is.True);
        ChildProcess.Run("chown", ["12345", reader]);
        Assert.That(TrustedRuntime.MayBeLoadedFrom(other), Is.False);
    }

    [TestCase(AttachedProcess.ClrMd)]
    [TestCase(AttachedProcess.Rundown)]
    public void Names_are_still_there_after_a_refresh(string source)
    {
        using AttachTarget target = AttachTarget.Start();
        using AttachedProcess process = AttachedProcess.Open(target.Pid, null, source);
        string?[] Names() => [.. target.Notes.SelectMany(static note => note.Addresses).Select(address => process.ManagedCode.Find(address - 1)?.Name)];
        string?[] before = Names();

        process.Refresh();

        Assert.That(before.Count(static name => name is not null), Is.AtLeast(80));
        Assert.That(Names(), Is.EqualTo(before));
    }

    [Test]
    public void Nothing_that_talks_to_symbol_servers_is_in_the_output() =>
        Assert.That(
            Directory.GetFiles(AppContext.BaseDirectory).Select(Path.GetFileName),
            Has.None.StartsWith("Azure.Identity").And.None.StartsWith("Microsoft.Identity"));

    private static void AssertRefused(Action open, string reason)
    {
        AttachException e = Assert.Throws<AttachException>(open)!;
        Assert.That(e.Message, Does.Contain(reason));
        Assert.That(e.Message, Does.Not.Contain("\n"));
    }
}
