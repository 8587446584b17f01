using System.Runtime.Versioning;
using NativeLeaks.Symbols.Managed;
using NativeLeaks.Tests;

namespace NativeLeaks.Attach.Tests;

/// <summary>Code of another live process: every address on its stacks has the name that its own runtime gives it.</summary>
[TestFixture]
[SupportedOSPlatform("linux")]
public sealed class ManagedFrameTests
{
    public static readonly string[] Sources = [AttachedProcess.ClrMd, AttachedProcess.Rundown];

    [TestCaseSource(nameof(Sources))]
    public void Every_frame_of_every_situation_is_the_method_that_its_own_runtime_says(string source)
    {
        using AttachTarget target = AttachTarget.Start();
        using AttachedProcess process = AttachedProcess.Open(target.Pid, null, source);

        Assert.That((process.Source, process.Pid, process.LostEvents), Is.EqualTo((source, target.Pid, 0L)));
        AssertNamesAllFrames(process, target, areFilesThere: true);
    }

    [TestCaseSource(nameof(Sources))]
    public void Names_are_written_as_the_library_writes_them(string source)
    {
        using AttachTarget target = AttachTarget.Start();
        using AttachedProcess process = AttachedProcess.Open(target.Pid, null, source);
        bool isExact = source == AttachedProcess.ClrMd;
        (string Situation, string Name)[] expected =
        [
            ("Method as it is compiled first", "AttachTarget.Situations.First()"),
            ("Method as it is compiled first", "AttachTarget.Program.Main(String[])"),
            ("Precompiled: List.ForEach", "System.Collections.Generic.List<Int32>.ForEach(Action<Int32>)"),
            ("Generic type over a class", "AttachTarget.Situations.Box<__Canon>.Inner." + (isExact ? "Put<Int32>(__Canon, Int32)" : "Put<?>(__Canon, ?)")),
            ("Generic type over a number", "AttachTarget.Situations.Box<Int32>.Inner." + (isExact ? "Put<__Canon>(Int32, __Canon)" : "Put<?>(Int32, ?)")),
            ("Generic method over a number", "AttachTarget.Situations." + (isExact ? "Twice<Int32, Int64>(Int32)" : "Twice<?>(?)")),
            (
                "Parameters of all kinds",
                "AttachTarget.Situations.Parameters(String[], Int32[][], Int32[,], Int32&, Byte*, KeyValuePair<String, List<Int32>>, " +
                "Double, Char, Dictionary<Guid, Inner<Int32>[]>)"
            ),
            ("Async method that was resumed", "AttachTarget.Situations.<Resumed>d__15.MoveNext()"),
            (
                "Async method that was resumed",
                "System.Runtime.CompilerServices.AsyncTaskMethodBuilder<Int32>.AsyncStateMachineBox<<Resumed>d__15>.MoveNext(Thread)"
            ),
            ("Lambda with a closure", "AttachTarget.Situations.<>c__DisplayClass17_0.<Closure>b__0()"),
            ("Local function", "AttachTarget.Situations.<Local>g__Inside|18_0(Int32)"),
            ("Constructor", "AttachTarget.Situations.TakesNotes.ctor(Int32)"),
            ("Static constructor", "AttachTarget.Situations.TakesNotesOnce.cctor()"),
            ("Static constructor", "System.Runtime.CompilerServices.InitHelpers.InitClassSlow(MethodTable*)"),
            ("DynamicMethod", "(dynamic) MadeAtRunTime"),
            ("Collectible assembly", "Made.Type.Method(Int32, String)"),
            ("Import with a callback", "IL_STUB_PInvoke"),
            ("Import with a callback", "IL_STUB_ReversePInvoke"),
        ];

        Assert.Multiple(() =>
        {
            foreach ((string situation, string name) in expected)
            {
                string[] names = [.. Places(process, target.Notes.First(note => note.Situation == situation)).Select(static place => place.Name)];
                Assert.That(names, Has.Member(name), $"{situation}: {string.Join("; ", names)}");
            }
        });
    }

    // A method's first body has a map of its IL, and so has the one that replaced it in its loop: never the other's.
    [TestCaseSource(nameof(Sources))]
    public void Offset_in_the_IL_is_the_right_one_or_none(string source)
    {
        using AttachTarget target = AttachTarget.Start();
        using AttachedProcess process = AttachedProcess.Open(target.Pid, null, source);
        int given = 0, asked = 0;
        foreach (Note note in target.Notes)
        {
            ManagedPlace[] places = [.. Places(process, note).Where(static place => !place.IsStub).Skip(1)];

            // The innermost stood at another place of the same method when it asked its runtime.
            foreach ((ManagedPlace place, NotedFrame frame) in places.Zip(note.Frames).Skip(1))
            {
                if (places.Length != note.Frames.Length)
                {
                    break; // the catch: a frame more than its runtime shows, see OncePerMethod
                }

                asked++;
                if (place.IlOffset >= 0 && frame.IlOffset >= 0)
                {
                    given++;
                    Assert.That(place.IlOffset, Is.EqualTo(frame.IlOffset), $"{note.Situation}: {place.Name}");
                }
            }
        }

        Assert.That(given, Is.GreaterThan(asked / 2));
        TestContext.Out.WriteLine($"{given} of {asked} frames have an offset");
    }

    [Test]
    public void Single_file_program_that_brings_its_runtime_is_named_by_what_the_runtime_lists()
    {
        using var folder = new TemporaryFolder();
        using AttachTarget target = AttachTarget.StartPublished(Publish(folder));
        using AttachedProcess process = AttachedProcess.Open(target.Pid);

        Assert.That((process.Source, process.LostEvents), Is.EqualTo((AttachedProcess.Rundown, 0L)));
        AssertNamesAllFrames(process, target, areFilesThere: false);
    }

    private static void AssertNamesAllFrames(AttachedProcess process, AttachTarget target, bool areFilesThere)
    {
        Assert.That(target.Notes, Has.Length.AtLeast(24));
        foreach (Note note in target.Notes)
        {
            ManagedPlace[] places = OncePerMethod(Places(process, note).Where(static place => !place.IsStub));

            // Between the innermost frame that asks its runtime and the shim stands the method that calls the shim.
            Assert.That(places[0].Name, Does.StartWith("AttachTarget.Notes.Walk("), note.Situation);
            Assert.That(
                places.Skip(1).Select(Describe), Is.EqualTo(note.Frames.Select(Describe)), $"{note.Situation}");
            foreach ((ManagedPlace place, NotedFrame frame) in places.Skip(1).Zip(note.Frames))
            {
                AssertIsOf(place, frame, areFilesThere);
            }
        }

        Assert.That(process.ManagedCode.Find(0), Is.Null);
        Assert.That(process.ManagedCode.Find(ulong.MaxValue), Is.Null);
    }

    // While a catch block runs, the frame of its method that threw still stands below it; the runtime shows the two as one.
    private static ManagedPlace[] OncePerMethod(IEnumerable<ManagedPlace> places)
    {
        List<ManagedPlace> once = [];
        foreach (ManagedPlace place in places)
        {
            if (once.Count == 0 || place.Name != once[^1].Name)
            {
                once.Add(place);
            }
        }

        return [.. once];
    }

    private static void AssertIsOf(ManagedPlace place, NotedFrame frame, bool areFilesThere)
    {
        Assert.That(place.Token, Is.EqualTo(frame.Token), place.Name);
        if (areFilesThere && frame.Module.EndsWith(".dll", StringComparison.Ordinal))
        {
            Assert.That(File.Exists(place.ModulePath), Is.True, $"{place.Name}: {place.ModulePath}");
            Assert.That(Path.GetFileName(place.ModulePath), Is.EqualTo(frame.Module), place.Name);
        }
    }

    private static IEnumerable<ManagedPlace> Places(AttachedProcess process, Note note) =>
        note.Addresses.Select(address => process.ManagedCode.Find(address - 1)).OfType<ManagedPlace>();

    // Both as namespace, types and method, without any arguments.
    private static string Describe(NotedFrame frame) =>
        frame.Type is null ? $"(dynamic) {frame.Method}" : $"{frame.Type}.{frame.Method.TrimStart('.')}";

    private static string Describe(ManagedPlace place)
    {
        string name = place.Name;
        int parameters = name.IndexOf('(', 1);
        name = parameters < 0 ? name : name[..parameters];
        var text = new System.Text.StringBuilder();
        int depth = 0;
        for (int i = 0; i < name.Length; i++)
        {
            // Brackets at the beginning of a part are the compiler's.
            if (depth == 0 && name[i] == '<' && i > 0 && name[i - 1] != '.')
            {
                depth++;
            }
            else if (depth > 0)
            {
                depth += name[i] switch { '<' => 1, '>' => -1, _ => 0 };
            }
            else
            {
                int end = name[i] == '<' ? name.IndexOf('>', i) : i;
                text.Append(name, i, end + 1 - i);
                i = end;
            }
        }

        return text.ToString();
    }

    private static string Publish(TemporaryFolder folder)
    {
        (int exitCode, string output) = DotnetCommand.Run(
            Path.GetTempPath(), "publish", RepositoryPaths.Root + "tests/fixtures/AttachTarget", "-c", "Release", "-r", "linux-x64",
            "--self-contained", "-p:PublishSingleFile=true", "--artifacts-path", folder.File("build"), "-o", folder.File("published"));
        if (exitCode != 0 && output.Contains("NU1", StringComparison.Ordinal))
        {
            Assert.Ignore($"The runtime that a self-contained program brings cannot be restored here (Microsoft.NETCore.App.Runtime.linux-x64): {output}");
        }

        Assert.That(exitCode, Is.Zero, output);
        return folder.File("published/AttachTarget");
    }
}
