namespace NativeLeaks;

/// <summary>xUnit.net takes an exception of any type for a skipped test if its message begins with the right token.</summary>
internal sealed class TestSkippedException(string message) : Exception(message);
