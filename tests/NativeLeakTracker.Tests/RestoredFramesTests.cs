using System.Runtime.Versioning;
using System.Text.Json;

namespace NativeLeaks.Tests;

/// <summary>
/// Frames that a jump or inlining left out stand in the report, marked as inferred; where nothing was left out, nothing is put in.
/// The program is tests/fixtures/StackSituations.
/// </summary>
[TestFixture]
[SupportedOSPlatform("linux")]
public sealed class RestoredFramesTests
{
    [Test]
    public void Native_function_that_jumped_to_malloc_is_put_back_and_marked() =>
        Assert.That(
            Frames("StackSituations", "P/Invoke whose native function jumps to malloc").Take(3),
            Is.EqualTo(new[]
            {
                ("callbacks_allocate_by_jump", true),
                ("StackSituations.Native.AllocateByJump(UIntPtr)", true),
                ("StackSituations.Interop.Jump()", false),
            }));

    [Test]
    public void Native_function_that_calls_malloc_has_its_frame_and_no_other() =>
        Assert.That(
            Frames("StackSituations", "P/Invoke, blittable").Take(3),
            Is.EqualTo(new[]
            {
                ("callbacks_allocate", false),
                ("StackSituations.Native.AllocateBlittable(UIntPtr)", true),
                ("StackSituations.Interop.Blittable()", false),
            }));

    [Test]
    public void Marshal_AllocHGlobal_that_jumped_to_NativeMemory_Alloc_is_put_back_and_marked() =>
        Assert.That(
            Frames("StackSituations", "Marshal.AllocHGlobal").Where(static f => f.Method.Contains("Marshal.", StringComparison.Ordinal)),
            Is.EqualTo(new[]
            {
                ("System.Runtime.InteropServices.Marshal.AllocHGlobal(IntPtr)", true),
                ("System.Runtime.InteropServices.Marshal.AllocHGlobal(Int32)", true),
            }));

    [Test]
    public void Debug_build_has_no_inferred_frame_of_its_own_but_imports()
    {
        var inferred = Report("StackSituationsUnoptimised").Stacks.Values.SelectMany(static stack => stack)
            .Where(static f => f.IsInferred && f.Method.StartsWith("StackSituations.", StringComparison.Ordinal))
            .Select(static f => f.Method);

        Assert.That(inferred, Is.Not.Empty.And.All.StartsWith("StackSituations.Native."));
    }

    private static List<(string Method, bool IsInferred)> Frames(string program, string situation)
    {
        var (sizes, stacks) = Report(program);
        return stacks[sizes[situation]];
    }

    private static (Dictionary<string, long> Sizes, Dictionary<long, List<(string Method, bool IsInferred)>> Stacks) Report(string program)
    {
        using var folder = new TemporaryFolder();
        var run = ChildProcess.RunManaged(
            program,
            [RepositoryPaths.NativeFixtures, folder.File("notes.json")],
            ChildProcess.Preload,
            ("NATIVELEAKS_REPORT", folder.File("report.json")));
        Assert.That(run.ExitCode, Is.Zero, run.Error);
        var sizes = JsonDocument.Parse(File.ReadAllBytes(folder.File("notes.json"))).RootElement.EnumerateArray()
            .ToDictionary(static n => n.GetProperty("Situation").GetString()!, static n => n.GetProperty("Size").GetInt64());
        var stacks = JsonReportFile.Read(folder.File("report.json")).OutstandingElements
            .Where(static l => l.GetProperty("blocks").GetInt64() == 1)
            .GroupBy(static l => l.GetProperty("bytes").GetInt64())
            .ToDictionary(
                static l => l.Key,
                static l => l.First().GetProperty("stack").EnumerateArray()
                    .Where(static f => f.GetProperty("kind").GetString() != "runtime")
                    .Select(static f => (f.GetProperty("method").GetString() ?? "?", f.GetProperty("inferred").GetBoolean())).ToList());
        return (sizes, stacks);
    }
}
