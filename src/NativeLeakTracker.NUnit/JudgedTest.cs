using NativeLeaks.Adapters;
using NUnit.Framework;
using NUnit.Framework.Interfaces;
using NUnit.Framework.Internal;

namespace NativeLeaks;

/// <summary>The scope around one run of a test, and what becomes of the test's result.</summary>
internal sealed class JudgedTest
{
    private readonly TestScope _scope;

    private JudgedTest(AssertNoNativeLeaksAttribute settings, TestScope scope)
    {
        Settings = settings;
        _scope = scope;
    }

    /// <summary>The attribute that opened the scope.</summary>
    public AssertNoNativeLeaksAttribute Settings { get; }

    public static JudgedTest Open(AssertNoNativeLeaksAttribute settings) => new(settings, TestScope.Open(settings.ToOptions()));

    public void Judge(TestExecutionContext context)
    {
        NativeLeakException? leak;
        string? unavailable;
        using (_scope)
        {
            leak = _scope.Judge();
            unavailable = _scope.Unavailable;
        }

        TestResult result = context.CurrentResult;
        if (leak is not null)
        {
            Show(leak, result);
        }
        else if (unavailable is not null && result.ResultState.Status == TestStatus.Passed)
        {
            result.SetResult(ResultState.Inconclusive, unavailable);
        }
    }

    private static void Show(NativeLeakException leak, TestResult result)
    {
        LeakFinding finding = LeakFinding.Of(leak, TestContext.CurrentContext.WorkDirectory, result.FullName);
        foreach (string file in finding.Files)
        {
            TestContext.AddTestAttachment(file, "Native memory that the test left behind");
        }

        if (result.ResultState.Status == TestStatus.Failed)
        {
            result.OutWriter.WriteLine(finding.Message);
            return;
        }

        // As an assertion, because of a result that was merely set [Repeat] forgets the message. A leak found in a test that was ended by
        // Assert.Pass, Assert.Ignore or the like fails it all the same.
        result.RecordAssertion(AssertionStatus.Failed, finding.Message);
        result.RecordTestCompletion();
    }
}
