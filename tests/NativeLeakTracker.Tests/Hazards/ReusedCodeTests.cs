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

    // What remains of a method is at most its name; asking the runtime about it after the unload would be fatal.
    [Test]
    public void Collectible_assemblies_unloaded_again_leave_no_wrong_name_and_no_crash(
        [ValueSource(typeof(HazardRun), nameof(HazardRun.Starts))] string start)
    {
        const int Assemblies = 200;

        var report = HazardRun.Report(start, "collectible-assemblies", $"{Assemblies}");

        Assert.That(JsonReportFile.Sum(report.Leaks).Blocks, Is.EqualTo(Assemblies), report.DescribeLeaks());
        foreach (var leak in report.Leaks)
        {
            int caller = leak.Stack.ToList().IndexOf("Hazards.CollectibleAssemblies.Call(Type, Int32)");
            string plugin = leak.Stack[caller - 1];
            bool isOwnName = leak.Blocks == 1 && plugin.Contains($"LeakFromPlugin{leak.Bytes - 1000}(", StringComparison.Ordinal);
            bool isNameless = plugin.StartsWith("(collectible code", StringComparison.Ordinal);
            Assert.That(isOwnName || isNameless, Is.True, $"{leak.Bytes} bytes: {plugin}");
            Assert.That(leak.Stack.Count(static f => f.Contains("LeakFromPlugin", StringComparison.Ordinal)), Is.AtMost(1));
        }
    }

    private static bool IsDynamicMethod(string frame) => frame.StartsWith("(dynamic) Dynamic", StringComparison.Ordinal);
}
