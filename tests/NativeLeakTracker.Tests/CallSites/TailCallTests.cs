using NativeLeaks.Symbols.CallSites;

namespace NativeLeaks.Tests.CallSites;

/// <summary>
/// Functions that a compiler's jump removed from the stack are put back where that can be proven, and nowhere else. The truth comes
/// from the same source, compiled without such jumps.
/// </summary>
[TestFixture]
public sealed class TailCallTests
{
    private static readonly string[] s_provable =
    [
        "one_links", "two_links", "three_links", "exported_links", "deep_links", "plain_links", "conditional_links", "either_links",
        "switch_links", "split_links", "split_and_jump_links",
    ];

    private static readonly string[] s_unprovable =
        ["ambiguous_links", "pointer_links", "perhaps_pointer_links", "called_pointer_links"];

    private readonly CallDecoder _decoder = new();

    public static IEnumerable<TestCaseData> Provable =>
        from library in (string[])["tail_calls", "tail_calls_no_plt", "tail_calls_checked"]
        from function in s_provable
        select new TestCaseData(library, function);

    [TestCaseSource(nameof(Provable))]
    public void Stack_is_the_one_without_tail_calls(string library, string function)
    {
        var expected = Names("tail_calls_kept", function);
        var names = Names(library, function);

        Assert.That(names.Select(Plain), Is.EqualTo(expected.Select(Plain)));
        Assert.That(expected.Where(IsInferred), Is.Empty, "nothing is missing there");
        Assert.That(names.Where(IsInferred), function is "plain_links" ? Is.Empty : Is.Not.Empty);
    }

    [Test]
    public void Every_function_of_a_chain_is_marked_as_inferred() =>
        Assert.That(
            Names("tail_calls", "three_links"),
            Is.EqualTo(["inferred three_last", "inferred three_middle", "inferred three_first", "three_links"]));

    [Test]
    public void Chain_between_two_frames_is_found() =>
        Assert.That(
            Names("tail_calls", "deep_links"),
            Is.EqualTo(["inferred one_last", "deep_frame", "inferred deep_jump", "deep_links"]));

    // A switch jumps through a pointer too, but it stays at home.
    [Test]
    public void Jump_of_a_switch_is_no_tail_call() =>
        Assert.That(Names("tail_calls", "switch_links"), Is.EqualTo(["inferred one_last", "inferred by_kind", "switch_links"]));

    [Test]
    public void Parts_of_a_function_are_no_functions() =>
        Assert.That(
            Names("tail_calls", "split_and_jump_links"),
            Is.EqualTo(["inferred one_last", "inferred split_and_jump", "split_and_jump_links"]));

    [TestCase("tail_calls", "ambiguous_links", nameof(ElisionStatus.Ambiguous))]
    [TestCase("tail_calls", "pointer_links", nameof(ElisionStatus.IndirectJump))]
    [TestCase("tail_calls", "perhaps_pointer_links", nameof(ElisionStatus.IndirectJump))]
    [TestCase("tail_calls", "called_pointer_links", nameof(ElisionStatus.IndirectCall))]
    [TestCase("tail_calls_no_plt", "ambiguous_links", nameof(ElisionStatus.Ambiguous))]
    [TestCase("tail_calls_no_plt", "perhaps_pointer_links", nameof(ElisionStatus.IndirectJump))]
    [TestCase("tail_calls_checked", "ambiguous_links", nameof(ElisionStatus.Ambiguous))]
    [TestCase("tail_calls_checked", "perhaps_pointer_links", nameof(ElisionStatus.IndirectJump))]
    [TestCase("tail_calls_stripped", "ambiguous_links", nameof(ElisionStatus.Ambiguous))]
    [TestCase("tail_calls_stripped", "perhaps_pointer_links", nameof(ElisionStatus.IndirectJump))]
    public void Nothing_is_inferred_where_there_could_be_another_way(string library, string function, string status)
    {
        using var stacks = AllocationStacks.Record(Library(library), function);
        var decoded = stacks.Decode(_decoder, stacks.Stacks.Single());

        Assert.That(decoded[0].Elision.Status.ToString(), Is.EqualTo(status));
        Assert.That(decoded.SelectMany(frame => frame.Elision.Frames), Is.Empty);
    }

    [Test]
    public void Nothing_is_inferred_where_every_function_has_its_frame()
    {
        using var stacks = AllocationStacks.Record(Library("tail_calls_kept"), [.. s_provable, .. s_unprovable]);

        Assert.That(stacks.Stacks, Has.Count.EqualTo(s_provable.Length + s_unprovable.Length));
        foreach (var stack in stacks.Stacks)
        {
            var decoded = stacks.Decode(_decoder, stack);
            Assert.That(decoded.SelectMany(frame => frame.Elision.Frames), Is.Empty, stack.Function);
            Assert.That(decoded.Select(frame => frame.Site.Evidence), Is.All.EqualTo(CallEvidence.Certain), stack.Function);
            Assert.That(decoded[0].Elision.Status, Is.EqualTo(ElisionStatus.Direct), stack.Function);
        }
    }

    // Without names there are still the extents of functions; parts of a function then look like functions.
    [Test]
    public void Stripped_library_has_as_many_inferred_frames_as_one_with_names()
    {
        foreach (var function in s_provable)
        {
            var named = Names("tail_calls", function);
            var nameless = Names("tail_calls_stripped", function);

            Assert.That(nameless.Select(IsInferred), Is.EqualTo(named.Select(IsInferred)), function);
        }
    }

    [Test]
    public void Nothing_is_inferred_when_nobody_knows_where_an_import_is()
    {
        using var stacks = AllocationStacks.Record(Library("tail_calls"), "exported_links");
        var frame = stacks.Stacks.Single().Frames[0];
        var site = _decoder.Check(frame.Image, frame.Address);

        var elision = _decoder.Elided(site, frame.Image, CalleeFrame.AnyOf(AllocationStacks.Allocators), static _ => null);

        Assert.That(site.Import, Is.EqualTo("exported_first"));
        Assert.That(elision.Status, Is.EqualTo(ElisionStatus.UnknownTarget));
        Assert.That(elision.Frames, Is.Empty);
    }

    [Test]
    public void Nothing_is_inferred_when_the_callee_is_somewhere_else()
    {
        using var stacks = AllocationStacks.Record(Library("tail_calls"), "three_links");
        var frame = stacks.Stacks.Single().Frames[0];
        var site = _decoder.Check(frame.Image, frame.Address);
        var elsewhere = CalleeFrame.Function(frame.Image, frame.Image.AddressOf("plain_links")!.Value);

        var elision = _decoder.Elided(site, frame.Image, elsewhere, stacks.Resolve);

        // The chain ends in malloc, in another library, from where no jump leads back.
        Assert.That(elision.Frames, Is.Empty);
        Assert.That(elision.Status, Is.Not.EqualTo(ElisionStatus.Found).And.Not.EqualTo(ElisionStatus.Direct));
    }

    // What no build of ours can vouch for: an ordinary library of the system, optimised and without names.
    [Test]
    public void Every_frame_of_a_library_of_the_system_follows_a_call()
    {
        const string Sqlite = "/usr/lib/x86_64-linux-gnu/libsqlite3.so.0";
        if (!File.Exists(Sqlite))
        {
            Assert.Ignore("There is no libsqlite3.so.0 of the system here.");
        }

        using var stacks = AllocationStacks.Record(Sqlite, "script");
        var decoded = stacks.Stacks.SelectMany(stack => stacks.Decode(_decoder, stack)).ToList();

        Assert.That(stacks.Stacks, Has.Count.GreaterThan(500));
        Assert.That(decoded.Select(frame => frame.Site.Evidence), Is.All.EqualTo(CallEvidence.Certain));
        foreach (var group in decoded.GroupBy(frame => frame.Elision.Status).OrderBy(group => group.Key))
        {
            TestContext.Out.WriteLine($"{group.Key}: {group.Count()}");
        }

        Assert.That(decoded.Count(frame => frame.Elision.Status == ElisionStatus.Found), Is.GreaterThan(500));
        Assert.That(decoded.Count(frame => frame.Elision.Status is ElisionStatus.NoRoute or ElisionStatus.Undecodable), Is.Zero);
    }

    private IReadOnlyList<string> Names(string library, string function)
    {
        using var stacks = AllocationStacks.Record(Library(library), function);
        return stacks.Names(_decoder, stacks.Stacks.Single(), withInferred: true);
    }

    private static string Library(string name) => Path.Combine(RepositoryPaths.NativeFixtures, $"lib{name}.so");

    private static bool IsInferred(string name) => name.StartsWith("inferred ", StringComparison.Ordinal);

    private static string Plain(string name) =>
        (IsInferred(name) ? name["inferred ".Length..] : name).Replace(".cold", "", StringComparison.Ordinal);
}
