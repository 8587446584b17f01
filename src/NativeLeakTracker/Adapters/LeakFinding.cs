using System.ComponentModel;

namespace NativeLeaks.Adapters;

/// <summary>A leak of a test as its result shows it: a message, and files to attach.</summary>
[EditorBrowsable(EditorBrowsableState.Advanced)]
public sealed class LeakFinding
{
    private LeakFinding(string message, IReadOnlyList<string> files)
    {
        Message = message;
        Files = files;
    }

    /// <summary>What leaked, and where the whole report lies.</summary>
    public string Message { get; }

    /// <summary>Paths of the whole report, as text and as JSON; empty if they could not be written, which the message then
    /// says.</summary>
    public IReadOnlyList<string> Files { get; }

    /// <summary>Writes the files. Does not throw because of them: a full disk must not hide a leak.</summary>
    /// <param name="leak">What was found.</param>
    /// <param name="folder">Where the files go; made if it is not there.</param>
    /// <param name="testName">Name of the test.</param>
    public static LeakFinding Of(NativeLeakException leak, string folder, string testName)
    {
        ArgumentNullException.ThrowIfNull(leak);
        string message = leak.Message.TrimEnd();
        try
        {
            (string text, string json) = ReportFiles.Write(leak.Report, folder, testName);
            // Not every runner shows attachments, and some lose those of repeated tests.
            return new LeakFinding($"{message}\n\nThe whole report: {text}", [text, json]);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            return new LeakFinding($"{message}\n\nThe whole report could not be written: {e.Message}", []);
        }
    }
}
