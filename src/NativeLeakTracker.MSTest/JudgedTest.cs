using System.Reflection;
using Microsoft.VisualStudio.TestTools.UnitTesting;
using NativeLeaks.Adapters;

namespace NativeLeaks;

/// <summary>The scope around one run of a test, and what becomes of the test's results.</summary>
internal static class JudgedTest
{
    // The scope is opened in this method's flow, which the test then runs in.
    public static async Task<TestResult[]> RunAsync(ITestMethod test, Func<Task<TestResult[]>> run)
    {
        using TestScope scope = TestScope.Open(SettingsOf(test).ToOptions());
        TestResult[] results = await run().ConfigureAwait(false);
        if (results is [.., { } last])
        {
            Judge(scope, test, last);
        }

        return results;
    }

    private static void Judge(TestScope scope, ITestMethod test, TestResult result)
    {
        NativeLeakException? leak;
        try
        {
            leak = scope.Judge();
        }
        catch (Exception e) when (e is PlatformNotSupportedException or ArgumentException or IOException or UnauthorizedAccessException)
        {
            Fail(result, e);
            return;
        }

        if (leak is not null)
        {
            Show(leak, test, result);
        }
        else if (scope.Unavailable is { } reason && result.Outcome == UnitTestOutcome.Passed)
        {
            result.Outcome = UnitTestOutcome.Inconclusive;
            result.TestFailureException = new AssertInconclusiveException(reason);
        }
    }

    private static void Show(NativeLeakException leak, ITestMethod test, TestResult result)
    {
        // The runner copies them to its results.
        string folder = Path.Combine(AppContext.BaseDirectory, "nativeleaks");
        LeakFinding finding = LeakFinding.Of(leak, folder, $"{test.TestClassName}.{test.TestMethodName}");
        result.ResultFiles = [.. result.ResultFiles ?? [], .. finding.Files];
        if (result.Outcome is UnitTestOutcome.Passed or UnitTestOutcome.Inconclusive or UnitTestOutcome.Ignored)
        {
            Fail(result, new AssertFailedException(finding.Message));
        }
        else
        {
            result.LogOutput = result.LogOutput + finding.Message + Environment.NewLine;
        }
    }

    private static void Fail(TestResult result, Exception failure)
    {
        if (result.TestFailureException is null || result.Outcome != UnitTestOutcome.Failed)
        {
            result.Outcome = UnitTestOutcome.Failed;
            result.TestFailureException = failure;
        }
    }

    private static NativeLeakSettingsAttribute SettingsOf(ITestMethod test)
    {
        Type? type = test.MethodInfo.ReflectedType;
        return test.MethodInfo.GetCustomAttribute<NativeLeakSettingsAttribute>() ??
               type?.GetCustomAttribute<NativeLeakSettingsAttribute>() ??
               type?.Assembly.GetCustomAttribute<NativeLeakSettingsAttribute>() ??
               new NativeLeakSettingsAttribute();
    }
}
