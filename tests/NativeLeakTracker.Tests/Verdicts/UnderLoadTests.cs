using NativeLeaks.Tests.Hazards;

namespace NativeLeaks.Tests.Verdicts;

/// <summary>Judging while others allocate and collect: tests/fixtures/Hazards/JudgementsUnderLoad.cs. tests/prove judges more often.</summary>
[TestFixture]
public sealed class UnderLoadTests
{
    [Test]
    public void Judgements_are_right_while_others_allocate_and_collect_and_the_program_sees_no_copy(
        [ValueSource(typeof(HazardRun), nameof(HazardRun.Starts))] string start)
    {
        ChildResult run = ChildProcess.RunManaged("Hazards", ["judgements-under-load", "-", "3"], HazardRun.Environment(start));
        Assert.That((run.ExitCode, run.Error), Is.EqualTo((0, "")));
        TestContext.Out.WriteLine($"{start}: {run.Output.Trim()}");
    }
}
