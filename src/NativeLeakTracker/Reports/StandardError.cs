namespace NativeLeaks.Reports;

/// <summary>The tracker's word to the person who runs the program.</summary>
internal static class StandardError
{
    /// <summary>
    /// Writes a line if it can be written. Standard error may be closed or full, and an exception in a module initializer or
    /// while the process exits would end the program with a crash.
    /// </summary>
    public static void TryWriteLine(string line)
    {
        try
        {
            Console.Error.WriteLine(line);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // There is nobody left to tell.
        }
    }
}
