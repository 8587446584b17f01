using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using System.Text.RegularExpressions;

namespace NativeLeaks.Tests.Judging;

/// <summary>Rules, filters and limits on real leaks, and what is said of those that stay.</summary>
[TestFixture]
[NonParallelizable]
[SupportedOSPlatform("linux")]
public sealed partial class JudgingTests
{
    private const int Size = 12_345;
    private readonly List<nint> _blocks = []; // inverted: a list of addresses would keep the blocks
    private readonly TemporaryFolder _folder = new();

    [TearDown]
    public void Free_the_blocks()
    {
        _blocks.ForEach(static b => Marshal.FreeHGlobal(~b));
        _blocks.Clear();
    }

    [OneTimeTearDown]
    public void Remove_the_folder() => _folder.Dispose();

    [TestCase("leak:LeakOne")]
    [TestCase("leak:^NativeLeaks.Tests.Judging.JudgingTests.LeakOne(Int32)$")]
    [TestCase("leak:^NativeLeakTracker.Tests.dll$")]
    [TestCase("leak:Judging/JudgingTests.cs$")]
    public void Rule_hides_the_leak_and_is_named_with_its_amount(string rule)
    {
        var report = Report(new NativeLeakOptions { Suppressions = ["leak:no such method", rule] }, () => LeakOne(Size));

        Assert.That(report.Leaks, Is.Empty);
        var excluded = report.Excluded.Single(static e => e.Reason == "suppressed" && e.Origin == "options");
        Assert.That((excluded.Rule, excluded.Blocks, excluded.Bytes), Is.EqualTo((rule, 1, Size)));
        Assert.That(report.ToText(), Does.Contain($"Suppressed ({rule}; options): 1 block, 12,345 bytes."));
    }

    [Test]
    public void Rule_for_one_method_leaves_the_leak_of_another()
    {
        var report = Report(
            new NativeLeakOptions { Suppressions = ["leak:LeakOne("] },
            () =>
            {
                LeakOne(Size);
                LeakOther(Size + 1);
            });

        Assert.That(report.Leaks.Select(static leak => leak.Bytes), Is.EqualTo(new[] { Size + 1 }));
    }

    [TestCase(3, null, true)]
    [TestCase(2, null, false)]
    [TestCase(null, 3 * Size, true)]
    [TestCase(null, (3 * Size) - 1, false)]
    [TestCase(3, (3 * Size) - 1, false)]
    [TestCase(3, 3 * Size, true)]
    public void Stack_within_all_limits_is_no_leak(int? blocks, int? bytes, bool passes)
    {
        var report = Report(
            new NativeLeakOptions { MaxBlocksPerStack = blocks, MaxBytesPerStack = bytes },
            () =>
            {
                for (var i = 0; i < 3; i++)
                {
                    LeakOne(Size);
                }
            });

        Assert.That(report.Leaks, Has.Count.EqualTo(passes ? 0 : 1));
        Assert.That(report.Excluded.Where(static e => e.Reason == "limit").Sum(static e => e.Bytes), Is.EqualTo(passes ? 3 * Size : 0));
    }

    public static IEnumerable<TestCaseData> Filters =>
    [
        new TestCaseData(new NativeLeakOptions { Owners = ["^NativeLeakTracker.Tests.dll$"] }, true),
        new TestCaseData(new NativeLeakOptions { Owners = ["^Other.dll$", "Tests.dll"] }, true),
        new TestCaseData(new NativeLeakOptions { Owners = ["^Other.dll$"] }, false),
        new TestCaseData(new NativeLeakOptions { Allocators = ["^System.Private.CoreLib.dll$"] }, true),
        new TestCaseData(new NativeLeakOptions { Allocators = ["libe_sqlite3"] }, false),
        new TestCaseData(new NativeLeakOptions { Methods = [".LeakOne("] }, true),
        new TestCaseData(new NativeLeakOptions { Methods = [".LeakOther("] }, false),
        new TestCaseData(new NativeLeakOptions { MinBlockBytes = Size }, true),
        new TestCaseData(new NativeLeakOptions { MinBlockBytes = Size + 1 }, false),
        new TestCaseData(new NativeLeakOptions { Filter = static leak => leak.Bytes == Size }, true),
        new TestCaseData(new NativeLeakOptions { Filter = static leak => leak.Bytes != Size }, false),
    ];

    [TestCaseSource(nameof(Filters))]
    public void Filter_decides_what_is_judged_and_the_rest_is_listed(NativeLeakOptions options, bool isJudged)
    {
        var report = Report(options, () => LeakOne(Size));

        Assert.That(report.Leaks, Has.Count.EqualTo(isJudged ? 1 : 0));
        Assert.That(report.Excluded.Any(static e => e.Reason == "filter" && e.Bytes >= Size), Is.Not.EqualTo(isJudged));
    }

    [Test]
    public void Filter_s_exception_is_the_assertion_s()
    {
        using var t = NativeLeakTracker.Start(new NativeLeakOptions { Strict = true, Filter = static _ => throw new TimeoutException("mine") });
        LeakOne(Size);

        Assert.That(t.AssertNoLeaks, Throws.TypeOf<TimeoutException>().With.Message.EqualTo("mine"));
    }

    public static IEnumerable<TestCaseData> Nonsense =>
    [
        new TestCaseData(new NativeLeakOptions { MaxBlocksPerStack = -1 }, "MaxBlocksPerStack"),
        new TestCaseData(new NativeLeakOptions { MaxBytesPerStack = -1 }, "MaxBytesPerStack"),
        new TestCaseData(new NativeLeakOptions { MinBlockBytes = -1 }, "MinBlockBytes"),
        new TestCaseData(new NativeLeakOptions { SettleTimeout = TimeSpan.FromSeconds(-1) }, "SettleTimeout"),
        new TestCaseData(new NativeLeakOptions { Owners = null! }, "Owners"),
        new TestCaseData(new NativeLeakOptions { Owners = [""] }, "Owners"),
        new TestCaseData(new NativeLeakOptions { Allocators = ["^$"] }, "Allocators"),
        new TestCaseData(new NativeLeakOptions { Methods = [null!] }, "Methods"),
        new TestCaseData(new NativeLeakOptions { Suppressions = ["Foo"] }, "Suppressions"),
        new TestCaseData(new NativeLeakOptions { Suppressions = ["leak:"] }, "Suppressions"),
        new TestCaseData(new NativeLeakOptions { SuppressionFiles = [" "] }, "SuppressionFiles"),
        new TestCaseData(new NativeLeakOptions { Scope = (NativeLeakScope)9 }, "Scope"),
    ];

    [TestCaseSource(nameof(Nonsense))]
    public void Option_that_makes_no_sense_is_refused_by_Start_with_its_name(NativeLeakOptions options, string name)
    {
        var thrown = Assert.Catch<ArgumentException>(() => NativeLeakTracker.Start(options))!;

        Assert.That(thrown.Message, Does.StartWith($"NativeLeakOptions.{name}"));
    }

    [Test]
    public void Suppression_file_that_is_not_there_is_said_by_Start()
    {
        var path = _folder.File("none.supp");

        Assert.That(
            () => NativeLeakTracker.Start(new NativeLeakOptions { SuppressionFiles = [path] }),
            Throws.TypeOf<FileNotFoundException>().With.Message.Contains(path));
    }

    [Test]
    public void Written_suppressions_hide_the_same_leaks_and_no_leak_of_another_method()
    {
        void LeakAll()
        {
            LeakOne(Size);
            LeakThroughPointer();
            void Local() => _blocks.Add(~Marshal.AllocHGlobal(Size + 2));
            Local();
            new Action(() => _blocks.Add(~Marshal.AllocHGlobal(Size + 3)))();
        }

        var path = _folder.File("known.supp");
        var known = Report(NativeLeakOptions.Default, LeakAll);
        Assert.That(known.Leaks, Has.Count.EqualTo(4), known.ToText());

        known.WriteSuppressions(path);
        Assert.That(File.GetUnixFileMode(path), Is.EqualTo(UnixFileMode.UserRead | UnixFileMode.UserWrite));

        var options = new NativeLeakOptions { SuppressionFiles = [path] };
        var again = Report(options, LeakAll);
        Assert.That(again.Leaks, Is.Empty, File.ReadAllText(path));
        Assert.That(
            again.Excluded.Where(e => e.Origin?.StartsWith(path, StringComparison.Ordinal) is true).Sum(static e => e.Bytes),
            Is.EqualTo(known.LeakedBytes));

        // Not a lambda: those of one method have one name, and one of them is among the known.
        void LeakAllAndOther()
        {
            LeakAll();
            LeakOther(Size + 9);
        }

        var withNew = Report(options, LeakAllAndOther);
        Assert.That(withNew.Leaks.Select(static leak => leak.Bytes), Is.EqualTo(new[] { Size + 9 }), File.ReadAllText(path));
    }

    [Test]
    public void Written_suppressions_replace_no_file_and_follow_no_link()
    {
        var report = Report(NativeLeakOptions.Default, () => LeakOne(Size));
        var file = _folder.File("precious");
        var link = _folder.File("link");
        File.WriteAllText(file, "precious");
        File.CreateSymbolicLink(link, _folder.File("target"));

        Assert.That(() => report.WriteSuppressions(file), Throws.InstanceOf<IOException>());
        Assert.That(() => report.WriteSuppressions(link), Throws.InstanceOf<IOException>());

        Assert.That(File.ReadAllText(file), Is.EqualTo("precious"));
        Assert.That(File.Exists(_folder.File("target")), Is.False);
    }

    // The syntax has no escape. Names come from anywhere: dynamic methods, C++, damaged files.
    [TestCase("a*b")]
    [TestCase("^a")]
    [TestCase("a$")]
    [TestCase("#a")]
    [TestCase("a\nleak:*")]
    [TestCase("a\u2028b\0c\ud800")]
    [TestCase(" a ")]
    public void Name_that_uses_the_syntax_s_characters_still_makes_one_rule_that_fits_it(string name)
    {
        var named = Named(name);
        var rules = Rules(named);

        Assert.That(rules, Has.Count.EqualTo(1));
        Assert.That(rules[0].Fits(named.Leaks[0].Stack[0]), Is.True);
        Assert.That(rules[0].Fits(new LeakFrame(LeakFrameKind.Managed, "Z.Another()", "z.dll")), Is.False);
    }

    [Test]
    public void Name_that_is_too_long_for_a_rule_is_cut()
    {
        var named = Named(string.Concat(Enumerable.Repeat("\ud83d\ude00", 3_000)));

        Assert.That(Rules(named).Single().Fits(named.Leaks[0].Stack[0]), Is.True);
    }

    [Test]
    public void Message_says_whether_who_and_what_to_do_and_shows_the_owner_s_frames_only()
    {
        using var t = NativeLeakTracker.Start();
        LeakOne(Size);
        LeakOne(Size);

        var thrown = Assert.Throws<NativeLeakException>(t.AssertNoLeaks)!;

        var lines = thrown.Message.Split('\n');
        Assert.That(lines[0], Is.EqualTo("2 native leaks: 2 blocks, 24,690 bytes allocated since Start() were not freed."));
        Assert.That(
            lines[1],
            Is.EqualTo("The largest was allocated by NativeLeaks.Tests.Judging.JudgingTests.LeakOne(Int32) in NativeLeakTracker.Tests.dll, " +
                       "through Marshal.AllocHGlobal."));
        Assert.That(lines[2], Is.EqualTo("Free each block with Marshal.FreeHGlobal."));
        var group = lines.Skip(4).TakeWhile(static line => line.Length > 0).ToArray();
        Assert.That(group[0], Does.StartWith("#1  1 block, 12,345 bytes   "));
        Assert.That(group[^1], Is.EqualTo("    Free each block with Marshal.FreeHGlobal."));
        Assert.That(thrown.Message, Does.Contain("    System.Runtime.InteropServices.Marshal.AllocHGlobal("));
        Assert.That(thrown.Message, Does.Contain("JudgingTests.LeakOne(Int32)   JudgingTests.cs:"));
        Assert.That(thrown.Message, Does.Not.Contain("nunit.framework").And.Not.Contain("System.Reflection").And.Not.Contain("System.Threading"));
        Assert.That(lines, Has.Length.LessThan(30));
    }

    [Test]
    public void Message_shows_three_leaks_and_says_how_many_more_there_are()
    {
        var report = Report(
            NativeLeakOptions.Default,
            () =>
            {
                LeakOne(1_000);
                LeakOther(1_001);
                _blocks.Add(~Marshal.AllocHGlobal(30));
                _blocks.Add(~Marshal.AllocHGlobal(20));
                _blocks.Add(~Marshal.AllocHGlobal(10));
            });

        var message = new NativeLeakException(report).Message;

        Assert.That(message, Does.Contain("#3  1 block, 30 bytes").And.Not.Contain("#4"));
        Assert.That(message, Does.Contain("And 2 more leaks: 2 blocks, 30 bytes."));
        Assert.That(report.ToText(), Does.Contain("#5  1 block, 10 bytes"));
    }

    [TestCase("Marshal.AllocHGlobal", "Marshal.FreeHGlobal")]
    [TestCase("TrackedMarshal.AllocCoTaskMem", "Marshal.FreeCoTaskMem")]
    [TestCase("Marshal.StringToCoTaskMemUTF8", "ZeroFreeCoTaskMemUTF8")]
    [TestCase("Marshal.StringToCoTaskMemUni", "ZeroFreeCoTaskMemUnicode")]
    [TestCase("Marshal.SecureStringToGlobalAllocUnicode", "ZeroFreeGlobalAllocUnicode")]
    [TestCase("NativeMemory.AlignedAlloc", "NativeMemory.AlignedFree")]
    [TestCase("Marshal.StructureToPtr", "DestroyStructure")]
    [TestCase("sqlite3_prepare_v2", "sqlite3_finalize")]
    [TestCase("strdup", "libc's free")]
    [TestCase("my_thing_create", "probably my_thing_destroy")]
    [TestCase(null, "libc's free")]
    public void Advice_names_the_counterpart(string? api, string counterpart) =>
        Assert.That(Advised(api, "unclassified", null), Does.Contain(counterpart));

    [Test]
    public void Counterparts_that_advice_names_exist()
    {
        var allocating = typeof(Marshal).GetMethods().Select(static m => m.Name).Where(static name => name.Contains("StringTo", StringComparison.Ordinal)).Distinct();
        foreach (var api in allocating.Append("AllocHGlobal").Append("AllocCoTaskMem").Append("StructureToPtr"))
        {
            var advice = Advised("Marshal." + api, "unclassified", null);
            Assert.That(advice, Is.Not.Null, api);
            foreach (Match counterpart in MarshalMethod().Matches(advice!))
            {
                Assert.That(typeof(Marshal).GetMember(counterpart.Groups[1].Value), Is.Not.Empty, $"{api}: {advice}");
            }
        }
    }

    [Test]
    public void What_a_finalizer_released_is_to_be_disposed() =>
        Assert.That(Advised("malloc", "undisposed", "My.SafeThing"), Does.StartWith("Dispose the My.SafeThing"));

    [GeneratedRegex(@"Marshal\.(\w+)")]
    private static partial Regex MarshalMethod();

    private static string? Advised(string? api, string verdict, string? type) =>
        Analysis.Advice.WithAdvice(new LeakGroup(verdict, 1, 1, 1, 1, api, null, null, [], []) { FinalizedType = type }).Advice;

    private static NativeLeakReport Named(string method)
    {
        using var t = NativeLeakTracker.Start();
        return t.GetReport() with
        {
            Leaks = [new LeakGroup("unclassified", 1, 1, 1, 1, method, "a.dll", "a.dll", [new LeakFrame(LeakFrameKind.Managed, method, "a.dll")], [])],
        };
    }

    private IReadOnlyList<Analysis.SuppressionRule> Rules(NativeLeakReport report)
    {
        var path = _folder.File(Guid.NewGuid().ToString("N"));
        report.WriteSuppressions(path);
        return Analysis.SuppressionFile.Read(path);
    }

    // What holds a block is not what these tests are about: in a process that has run for long, a stale word may.
    private static NativeLeakReport Report(NativeLeakOptions options, Action leak)
    {
        using var t = NativeLeakTracker.Start(options with { Strict = true });
        leak();
        return t.GetReport();
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void LeakOne(int size) => _blocks.Add(~Marshal.AllocHGlobal(size));

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void LeakOther(int size) => _blocks.Add(~Marshal.AllocHGlobal(size));

    // A pointer's asterisk and a generic's brackets are part of the name.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private unsafe void LeakBytes<T>(byte** nothing, Generic<T> other) =>
        _blocks.Add(~Marshal.AllocHGlobal(Size + 1 + (nothing == null && other is not null ? 0 : 1)));

    private unsafe void LeakThroughPointer() => LeakBytes(null, new Generic<int>());

    private sealed class Generic<T>;
}
