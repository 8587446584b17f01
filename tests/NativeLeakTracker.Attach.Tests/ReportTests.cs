using System.Runtime.Versioning;
using NativeLeaks.Tests;

namespace NativeLeaks.Attach.Tests;

/// <summary>The report of another process while it lives: its ledger, with the names that the process itself knows.</summary>
[TestFixture]
[SupportedOSPlatform("linux")]
public sealed class ReportTests
{
    [TestCase(AttachedProcess.ClrMd)]
    [TestCase(AttachedProcess.Rundown)]
    public void Report_of_a_living_process_names_every_managed_frame(string source)
    {
        using var folder = new TemporaryFolder();
        using AttachTarget target = AttachTarget.StartRecorded(folder.File("ledger"));
        using AttachedProcess process = AttachedProcess.Open(target.Pid, null, source);

        NativeLeakReport report = process.GetReport(folder.File("ledger"));

        LeakFrame[] managed = [.. report.Leaks.SelectMany(static leak => leak.Stack).Where(static f => f.Kind == LeakFrameKind.Managed)];
        Assert.Multiple(() =>
        {
            Assert.That((report.Process.Pid, report.Capture.EndedBy, report.Capture.Mode), Is.EqualTo((target.Pid, "running", "preload")));
            Assert.That(managed.Select(static f => f.Method), Has.Member("AttachTarget.Program.Main(String[])"));
            Assert.That(managed.Where(static f => f.Method is null || f.Method.StartsWith("(managed code", StringComparison.Ordinal)), Is.Empty);

            // The lines of an async method are those of its state machine: what makes and starts that has none.
            HashSet<string?> async = [.. managed.Where(static f => f.Symbol is not null).Select(static f => f.Method)];
            Assert.That(
                managed.Where(f => f is { Module: "AttachTarget.dll", Inferred: false, Line: null } && !async.Contains(f.Method)).Select(static f => f.Method),
                Is.Empty);
        });
    }

    [Test]
    public void Ledger_of_another_process_is_refused_and_named()
    {
        using var folder = new TemporaryFolder();
        using AttachTarget target = AttachTarget.StartRecorded(folder.File("ledger"));
        using AttachTarget other = AttachTarget.Start();
        using AttachedProcess process = AttachedProcess.Open(other.Pid);

        Assert.That(
            () => process.GetReport(folder.File("ledger")),
            Throws.InstanceOf<AttachException>().With.Message.Contains($"of process {target.Pid}, not of {other.Pid}"));
    }
}
