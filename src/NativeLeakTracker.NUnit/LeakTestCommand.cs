using NUnit.Framework.Internal;
using NUnit.Framework.Internal.Commands;

namespace NativeLeaks;

/// <summary>
/// A test with its SetUp and TearDown, in a scope of its own. All of it runs in one flow, so the scope reaches each part.
/// </summary>
internal sealed class LeakTestCommand : BeforeAndAfterTestCommand
{
    public LeakTestCommand(TestCommand test, AssertNoNativeLeaksAttribute settings)
        : base(test)
    {
        BeforeTest = _ => AssertNoNativeLeaksAttribute.Begin(settings);
        AfterTest = AssertNoNativeLeaksAttribute.End;
    }
}
