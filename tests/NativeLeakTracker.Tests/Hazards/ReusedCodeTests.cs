namespace NativeLeaks.Tests.Hazards;

/// <summary>Code that the runtime collects, so that its memory is used again: no block is ever blamed on the wrong method.</summary>
[TestFixture]
public sealed class ReusedCodeTests
{
    [Test]
    public void Dynamic_methods_made_and_collected_each_name_their_own_block(
        [ValueSource(typeof(HazardRun), nameof(HazardRun.Starts))] string start)
    {
        const int Methods = 3000;

        var report = HazardRun.Report(start, "dynamic-methods", $"{Methods}");

        var blamed = report.Leaks.Select(static leak => (leak.Bytes, string.Join(',', leak.Stack.Where(IsDynamicMethod))));
        var expected = Enumerable.Range(0, Methods).Select(static i => (1000L + i, $"(dynamic) Dynamic{i}"));
        Assert.That(blamed.Order(), Is.EqualTo(expected.Order()));
    }

    // Their names come from what was copied while the code ran; asking the runtime about it after the unload would be fatal.
    [Test]
    public void Collectible_assemblies_unloaded_again_each_name_their_own_block(
        [ValueSource(typeof(HazardRun), nameof(HazardRun.Starts))] string start)
    {
        const int Assemblies = 200;

        var report = HazardRun.Report(start, "collectible-assemblies", $"{Assemblies}");

        var blamed = report.Leaks.Select(static leak => (leak.Bytes, string.Join(',', leak.Stack.Where(IsPlugin))));
        var expected = Enumerable.Range(0, Assemblies).Select(static i => (1000L + i, $"Plugin.LeakFromPlugin{i}(Int32)"));
        Assert.That(blamed.Order(), Is.EqualTo(expected.Order()));
    }

    private static bool IsPlugin(string frame) => frame.Contains("Plugin", StringComparison.Ordinal);

    private static bool IsDynamicMethod(string frame) => frame.StartsWith("(dynamic) Dynamic", StringComparison.Ordinal);
}
