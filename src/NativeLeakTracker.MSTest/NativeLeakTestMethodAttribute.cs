using System.Runtime.CompilerServices;
using Microsoft.VisualStudio.TestTools.UnitTesting;

namespace NativeLeaks;

/// <summary>
/// A test method that fails if it leaves native memory behind: the test with its TestInitialize and TestCleanup, with the constructor
/// and Dispose of its class; each data row and each retry by itself. The report is attached to the result.
/// </summary>
/// <remarks>
/// What ClassInitialize and AssemblyInitialize allocate belongs to no test. A test that fails by itself keeps its failure; what it
/// leaked is added to its output. <see cref="NativeLeakSettingsAttribute"/> has the options.
/// </remarks>
[AttributeUsage(AttributeTargets.Method)]
public sealed class NativeLeakTestMethodAttribute : TestMethodAttribute
{
    private TestMethodAttribute? _inner;

    /// <summary>Marks a test method; the compiler fills in the parameters.</summary>
    public NativeLeakTestMethodAttribute([CallerFilePath] string callerFilePath = "", [CallerLineNumber] int callerLineNumber = -1)
        : base(callerFilePath, callerLineNumber)
    {
    }

    /// <summary>Runs a test as another attribute does, and judges it.</summary>
    internal static NativeLeakTestMethodAttribute Around(TestMethodAttribute inner) =>
        new(inner.DeclaringFilePath, inner.DeclaringLineNumber ?? -1)
        {
            _inner = inner,
            DisplayName = inner.DisplayName,
            UnfoldingStrategy = inner.UnfoldingStrategy,
        };

    /// <inheritdoc/>
    public override Task<TestResult[]> ExecuteAsync(ITestMethod testMethod)
    {
        ArgumentNullException.ThrowIfNull(testMethod);
        return JudgedTest.RunAsync(testMethod, () => _inner is null ? base.ExecuteAsync(testMethod) : _inner.ExecuteAsync(testMethod));
    }
}
