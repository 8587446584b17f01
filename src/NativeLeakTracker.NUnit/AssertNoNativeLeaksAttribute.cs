using System.Reflection;
using NativeLeaks.Adapters;
using NUnit.Framework;
using NUnit.Framework.Interfaces;
using NUnit.Framework.Internal;
using NUnit.Framework.Internal.Commands;

namespace NativeLeaks;

/// <summary>
/// Fails each test that leaves native memory behind, of a method, a fixture or an assembly: the test with its SetUp and TearDown,
/// each case and each repetition by itself. The attribute nearest to the test decides. The report is attached to the result.
/// </summary>
/// <remarks>
/// What OneTimeSetUp and constructors allocate belongs to no test. A test that fails by itself keeps its failure; what it leaked is
/// added to its output.
/// </remarks>
[AttributeUsage(AttributeTargets.Method | AttributeTargets.Class | AttributeTargets.Assembly)]
public sealed class AssertNoNativeLeaksAttribute : LeakSettingsAttribute, IWrapSetUpTearDown, ITestAction
{
    // NUnit takes wrappers from one level only, the nearest that has any: [MaxTime] on a method pushes this attribute on the class
    // aside. Actions it takes from each level; so the attribute is one as well, and does nothing where the wrapper is at work.
    // The action of a method would run inside SetUp and TearDown, but there the wrapper is always at work.
    private static readonly AsyncLocal<JudgedTest?> s_current = new();

    ActionTargets ITestAction.Targets => ActionTargets.Test;

    TestCommand ICommandWrapper.Wrap(TestCommand command) => new LeakTestCommand(command, this);

    void ITestAction.BeforeTest(ITest test)
    {
        if (s_current.Value is null && IsNearestTo(test))
        {
            Begin(this);
        }
    }

    void ITestAction.AfterTest(ITest test)
    {
        if (s_current.Value is { } judged && judged.Settings == this)
        {
            End(TestExecutionContext.CurrentContext);
        }
    }

    /// <summary>Opens the scope of the test that is about to run in this flow.</summary>
    internal static void Begin(AssertNoNativeLeaksAttribute settings) => s_current.Value = JudgedTest.Open(settings);

    /// <summary>Judges the test of this flow and closes its scope; nothing if none was opened.</summary>
    internal static void End(TestExecutionContext context)
    {
        JudgedTest? judged = s_current.Value;
        s_current.Value = null;
        judged?.Judge(context);
    }

    // The attributes of different levels that say the same are as good as one.
    private bool IsNearestTo(ITest test) => Equals(
        test.Method?.MethodInfo.GetCustomAttribute<AssertNoNativeLeaksAttribute>() ??
        test.TypeInfo?.Type.GetCustomAttribute<AssertNoNativeLeaksAttribute>() ??
        test.TypeInfo?.Type.Assembly.GetCustomAttribute<AssertNoNativeLeaksAttribute>());
}
