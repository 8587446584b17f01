using Microsoft.VisualStudio.TestTools.UnitTesting;

namespace NativeLeaks;

/// <summary>A test class all of whose tests are judged as by <see cref="NativeLeakTestMethodAttribute"/>.</summary>
[AttributeUsage(AttributeTargets.Class)]
public sealed class NativeLeakTestClassAttribute : TestClassAttribute
{
    /// <inheritdoc/>
    public override TestMethodAttribute? GetTestMethodAttribute(TestMethodAttribute testMethodAttribute) =>
        base.GetTestMethodAttribute(testMethodAttribute) switch
        {
            null => null,
            NativeLeakTestMethodAttribute judged => judged,
            { } other => NativeLeakTestMethodAttribute.Around(other),
        };
}
