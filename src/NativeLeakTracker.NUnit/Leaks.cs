namespace NativeLeaks;

/// <summary>Constraints about native memory.</summary>
/// <remarks><code>Assert.That(() => Bind(statement, blob), Leaks.NoNativeMemory);</code></remarks>
public static class Leaks
{
    /// <summary>
    /// A delegate, synchronous or not, after which all native memory is freed that it allocated. What it throws is thrown by the assertion.
    /// </summary>
    public static NoNativeMemoryConstraint NoNativeMemory => new();
}
