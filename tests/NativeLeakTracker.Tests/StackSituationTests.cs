using System.Runtime.Versioning;
using System.Text.Json;

namespace NativeLeaks.Tests;

/// <summary>
/// Stacks are exact and named: tests/fixtures/StackSituations allocates one block in each of some 180 situations and asks
/// System.Diagnostics.StackTrace at the same place; the report on exit must have each of its frames, in the same order, with
/// the same name and line. StackSituationsUnoptimised is the same program as a Debug build compiles it.
/// </summary>
[TestFixture]
[Parallelizable(ParallelScope.Self)]
[SupportedOSPlatform("linux")]
public sealed class StackSituationTests
{
    private static readonly string[] s_losses = ["brokenStacks", "approximateStacks", "truncated", "dropped", "uncopiedCodeInfo"];

    /// <summary>Preloaded, and read from the ledger when the process is gone: no runtime can be asked any more.</summary>
    private const string AfterTheEnd = "after the end";

    private static IEnumerable<TestCaseData<string, string, int, (string Name, string Value)[]>> Runs =>
        from program in (string[])["StackSituations", "StackSituationsUnoptimised"]
        from start in (string[])["late", "preload", AfterTheEnd]
        from setting in s_settings.Take(program == "StackSituations" && start != AfterTheEnd ? s_settings.Length : 2)
        select new TestCaseData<string, string, int, (string Name, string Value)[]>(program, start, setting.Rehearsals, setting.Environment)
            .SetArgDisplayNames($"{program}, {start}, {setting.Name}");

    // What the JIT, the loader and the collector do otherwise.
    private static readonly (string Name, int Rehearsals, (string Name, string Value)[] Environment)[] s_settings =
    [
        ("defaults", 0, []),
        ("defaults, each situation rehearsed", 80, []),
        ("everything optimised at once", 0, [("DOTNET_TieredCompilation", "0")]),
        ("no profile-guided tiers, rehearsed", 80, [("DOTNET_TieredPGO", "0")]),
        ("loops optimised at once", 0, [("DOTNET_TC_QuickJitForLoops", "0")]),
        ("loops replaced as early as can be", 0, [("DOTNET_TC_OnStackReplacement_InitialCounter", "1"), ("DOTNET_OSR_HitLimit", "1")]),
        ("nothing precompiled", 0, [("DOTNET_ReadyToRun", "0")]),
        ("code pages mapped once", 0, [("DOTNET_EnableWriteXorExecute", "0")]),
        ("no wide vectors", 0, [("DOTNET_EnableAVX", "0")]),
        ("server collector", 0, [("DOTNET_gcServer", "1")]),
        ("segments and a collection every 256 kB", 0, [("DOTNET_GCName", "libclrgc.so"), ("DOTNET_GCgen0size", "40000")]),
    ];

    [TestCaseSource(nameof(Runs))]
    public void Every_frame_of_StackTrace_is_in_the_report_and_in_order(
        string program, string start, int rehearsals, (string Name, string Value)[] settings)
    {
        using var folder = new TemporaryFolder();
        var run = ChildProcess.RunManaged(
            program,
            [RepositoryPaths.NativeFixtures, folder.File("notes.json"), $"{rehearsals}"],
            [
                .. start == "late" ? Array.Empty<(string, string)>() : [ChildProcess.Preload],
                .. start == AfterTheEnd ? [("NATIVELEAKS_LEDGER", folder.File("ledger"))] : Array.Empty<(string, string)>(),
                ("NATIVELEAKS_REPORT", folder.File("report.json")),
                ("NATIVELEAKS_STATS", folder.File("stats")),
                .. settings,
            ]);
        Assert.That(run.ExitCode, Is.Zero, run.Error);

        var report = start == AfterTheEnd ? ReadLedger(folder.File("ledger")) : JsonReportFile.Read(folder.File("report.json"));
        var bySize = report.OutstandingElements
            .Where(leak => leak.GetProperty("blocks").GetInt64() == 1)
            .ToLookup(leak => leak.GetProperty("bytes").GetInt64(), leak => leak.GetProperty("stack"));
        var results = JsonDocument.Parse(File.ReadAllBytes(folder.File("notes.json"))).RootElement.EnumerateArray()
            .Select(note => (Situation: note.GetProperty("Situation").GetString()!, Difference: Compare(note, bySize, program == "StackSituations")))
            .ToList();
        foreach (var (situation, difference) in results)
        {
            TestContext.Out.WriteLine($"{situation}: {difference ?? "OK"}");
        }

        var stats = JsonDocument.Parse(File.ReadAllText(folder.File("stats"))).RootElement;
        Assert.Multiple(() =>
        {
            Assert.That(results, Has.Count.GreaterThan(170));
            Assert.That(results.Where(result => result.Difference is not null), Is.Empty);
            Assert.That(report.Capture.GetProperty("stacks").GetString(), Is.EqualTo("exact"));
            foreach (var name in s_losses)
            {
                Assert.That(stats.GetProperty(name).GetInt64(), Is.Zero, name);
            }
        });
    }

    private static JsonReportFile ReadLedger(string path)
    {
        using var json = new MemoryStream();
        NativeLeakReport.FromLedger(path).WriteJson(json);
        return JsonReportFile.Parse(json.ToArray());
    }

    /// <summary>Null: the stacks agree. Otherwise how they differ, in words.</summary>
    private static string? Compare(JsonElement note, ILookup<long, JsonElement> bySize, bool isOptimised)
    {
        var found = bySize[note.GetProperty("Size").GetInt64()].ToList();
        if (found.Count != 1)
        {
            return $"{found.Count} blocks of its size in the report";
        }

        List<ReportedFrame> stack = [.. found[0].EnumerateArray().Select(frame => new ReportedFrame(frame))];
        if (stack.FirstOrDefault(frame => frame.IsInexact) is { } inexact)
        {
            return $"not exact at {inexact}";
        }

        HashSet<int> matched = [];
        int next = 0;
        foreach (var frame in note.GetProperty("Frames").EnumerateArray())
        {
            string method = frame.GetProperty("Method").GetString()!, kind = frame.GetProperty("Kind").GetString()!;
            int at = stack.FindIndex(next, reported => reported.Is(method, kind));
            if (at < 0 && kind == "pinvoke")
            {
                // Its caller, which tells it from others, was left by a jump.
                at = stack.FindIndex(next, reported => reported.IsImportStub);
                at = at >= 0 && stack[at + 1].IsFrameworks ? at : -1;
            }

            if (at < 0)
            {
                return $"{method} is missing, or in the wrong place, among\n    {string.Join("\n    ", stack)}";
            }

            if (!HasLine(stack, at, frame.GetProperty("File").GetString(), frame.GetProperty("Line").GetInt32()))
            {
                return $"{method} stands in line {frame.GetProperty("Line")}, and not as in\n    {string.Join("\n    ", stack)}";
            }

            if (kind == "pinvoke")
            {
                next = at; // StackTrace names a declaration once more where native code called back
            }
            else
            {
                matched.Add(at);
                next = at + 1;
            }
        }

        return Enumerable.Range(0, stack.Count).FirstOrDefault(at => !matched.Contains(at) && !IsExplained(stack, at, matched, isOptimised), -1)
            is var extra and >= 0 ? $"{stack[extra]} is no frame of StackTrace" : null;
    }

    /// <summary>
    /// Of a method whose finally, filter or catch runs, StackTrace tells where the method itself stands; the report has both frames,
    /// the part that runs further in, and between them at most what the exception has passed.
    /// </summary>
    private static bool HasLine(List<ReportedFrame> stack, int at, string? file, int line)
    {
        if (line == 0 || stack[at].IsAt(file, line))
        {
            return true;
        }

        int outer = stack.FindIndex(at + 1, frame => frame.Method == stack[at].Method && frame.IsAt(file, line));
        return outer > 0 && (outer == at + 1 || stack[at..outer].Exists(static frame => frame.IsRuntimesOwn));
    }

    /// <summary>Managed frames that StackTrace does not show.</summary>
    private static bool IsExplained(List<ReportedFrame> stack, int at, HashSet<int> matched, bool isOptimised)
    {
        int innermost = matched.DefaultIfEmpty(stack.Count).Min();
        return !stack[at].IsManaged
            || (stack[at].IsInferred && (isOptimised || !stack[at].IsOwn)) // inlined or left by a jump: StackTrace does not put it back
            || at < innermost // what the innermost method called to allocate
            || stack[at].Method == stack[at - 1].Method // the method whose finally or catch runs as a funclet
            || stack[innermost..at].Exists(frame => frame.IsRuntimesOwn); // what an exception has passed, still on the stack
    }

    private sealed class ReportedFrame(JsonElement frame)
    {
        private readonly string _text = frame.GetProperty("method").GetString() ?? "?";
        private readonly string? _module = frame.GetProperty("module").GetString();
        private readonly string? _file = frame.GetProperty("file").GetString();
        private readonly int _line = frame.GetProperty("line") is { ValueKind: JsonValueKind.Number } line ? line.GetInt32() : 0;

        /// <summary>As the assembly has it.</summary>
        public string Method { get; } = WithoutArguments(
            (frame.TryGetProperty("symbol", out var symbol) ? symbol : frame.GetProperty("method")).GetString() ?? "?");

        public bool IsManaged { get; } = frame.GetProperty("kind").GetString() == "managed";

        /// <summary>A method of the program that a Debug build leaves a frame for: all but a P/Invoke's declaration.</summary>
        public bool IsOwn => Method.StartsWith("StackSituations.", StringComparison.Ordinal) &&
            !Method.StartsWith("StackSituations.Native.", StringComparison.Ordinal);

        public bool IsInferred { get; } = frame.GetProperty("inferred").GetBoolean();

        public bool IsImportStub => _text.StartsWith("IL_STUB_PInvoke", StringComparison.Ordinal);

        public bool IsFrameworks => IsManaged && Method.StartsWith("System.", StringComparison.Ordinal);

        public bool IsRuntimesOwn => _module == "libcoreclr.so";

        public bool IsInexact { get; } = frame.TryGetProperty("approximate", out _) || frame.TryGetProperty("cut", out _);

        public bool Is(string method, string kind) => kind switch
        {
            // The frame around a generated declaration has its name; one that was never bound was never called.
            "pinvoke" when method.Contains("g____PInvoke|", StringComparison.Ordinal) => !IsManaged,
            "pinvoke" when method == "StackSituations.Moments.Missing" => IsRuntimesOwn,
            // Nobody asks which of its own imports the framework called.
            "pinvoke" when method.StartsWith("System.", StringComparison.Ordinal) => !IsManaged,
            "pinvoke" => IsInferred && Method == method,
            "dynamic" => IsManaged && _text == "(dynamic) " + method,
            _ => IsManaged && Method == method,
        };

        public bool IsAt(string? file, int line) => _file == file && _line == line;

        public override string ToString() => $"{_text} [{_module}] {_file}:{_line}{(IsInferred ? " inferred" : "")}";

        /// <summary>Parameters and generic arguments go; the angle brackets in names that compilers make stay.</summary>
        private static string WithoutArguments(string text)
        {
            int end = text.IndexOf('(', 1);
            var kept = new System.Text.StringBuilder();
            for (int i = 0; i < (end < 0 ? text.Length : end); i++)
            {
                if (text[i] == '<' && kept.Length > 0 && (char.IsLetterOrDigit(kept[^1]) || kept[^1] == '_'))
                {
                    for (int depth = 1; depth > 0 && i + 1 < text.Length;)
                    {
                        depth += text[++i] switch { '<' => 1, '>' => -1, _ => 0 };
                    }
                }
                else
                {
                    kept.Append(text[i]);
                }
            }

            return kept.ToString();
        }
    }
}
