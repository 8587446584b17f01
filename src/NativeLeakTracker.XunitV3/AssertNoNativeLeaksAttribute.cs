using System.Reflection;
using System.Text;
using NativeLeaks.Adapters;
using Xunit;
using Xunit.v3;

namespace NativeLeaks;

/// <summary>
/// Fails each test that leaves native memory behind, of a method, a class, a collection or an assembly; each row of a theory by
/// itself. The attribute nearest to the test decides. The report is attached to the result.
/// </summary>
/// <remarks>
/// xUnit.net runs it around the test method. The constructor and InitializeAsync of the test class come before, Dispose and
/// DisposeAsync after it: what the test leaves for Dispose to free is called a leak. Where that is so, open a tracker in the
/// constructor and let it assert at the end of Dispose. A test that fails by itself keeps its failure; what it leaked is added to its
/// output.
/// </remarks>
[AttributeUsage(AttributeTargets.Method | AttributeTargets.Class | AttributeTargets.Assembly)]
public sealed class AssertNoNativeLeaksAttribute : LeakSettingsAttribute, IBeforeAfterTestAttribute
{
    // One attribute serves all tests of its class or assembly, at the same time; each finds its own scope in its flow.
    private static readonly AsyncLocal<TestScope?> s_scope = new();

    void IBeforeAfterTestAttribute.Before(MethodInfo methodUnderTest, IXunitTest test)
    {
        if (IsNearestTo(test))
        {
            s_scope.Value = TestScope.Open(ToOptions());
        }
    }

    void IBeforeAfterTestAttribute.After(MethodInfo methodUnderTest, IXunitTest test)
    {
        if (!IsNearestTo(test) || s_scope.Value is not { } scope)
        {
            return;
        }

        s_scope.Value = null;
        NativeLeakException? leak;
        string? unavailable;
        using (scope)
        {
            leak = scope.Judge();
            unavailable = scope.Unavailable;
        }

        ITestContext context = TestContext.Current;
        if (leak is not null)
        {
            Attach(context, leak.Report);
            if (context.TestState?.Result != TestResult.Failed)
            {
                throw leak;
            }

            context.TestOutputHelper?.WriteLine(leak.Message);
        }
        else if (unavailable is not null && context.TestState?.Result == TestResult.Passed)
        {
            // What Assert.Skip throws; that one is in a package of its own.
            throw new TestSkippedException(DynamicSkipToken.Value + unavailable);
        }
    }

    private static void Attach(ITestContext context, NativeLeakReport report)
    {
        using var json = new MemoryStream();
        report.WriteJson(json);
        // Runners make file names of these, and add the extension that belongs to the type.
        context.AddAttachment("nativeleaks-text", Encoding.UTF8.GetBytes(report.ToText()), "text/plain");
        context.AddAttachment("nativeleaks-json", json.ToArray(), "application/json");
    }

    // xUnit.net runs those of all levels, the outermost first.
    private bool IsNearestTo(IXunitTest test) =>
        ReferenceEquals(this, test.TestMethod.BeforeAfterTestAttributes.OfType<AssertNoNativeLeaksAttribute>().LastOrDefault());
}
