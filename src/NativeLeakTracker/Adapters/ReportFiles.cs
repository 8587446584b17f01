using System.ComponentModel;
using System.Text;

namespace NativeLeaks.Adapters;

/// <summary>Writes a report into files that a test result can carry.</summary>
[EditorBrowsable(EditorBrowsableState.Advanced)]
public static class ReportFiles
{
    /// <summary>
    /// Writes the whole report as text and as JSON into new files, readable by their owner only, and returns their paths. The
    /// names are made of the test's name and are free: nothing is replaced.
    /// </summary>
    /// <param name="report">What is written.</param>
    /// <param name="folder">Where; made if it is not there.</param>
    /// <param name="testName">Name of the test; characters that files cannot have are replaced.</param>
    /// <exception cref="IOException">The files cannot be written.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written to.</exception>
    public static (string Text, string Json) Write(NativeLeakReport report, string folder, string testName)
    {
        ArgumentNullException.ThrowIfNull(report);
        ArgumentException.ThrowIfNullOrEmpty(folder);
        Directory.CreateDirectory(folder);
        string stem = Path.Combine(Path.GetFullPath(folder), FileNameOf(testName));
        (FileStream text, string textPath) = Create(stem, ".nativeleaks.txt");
        using (var writer = new StreamWriter(text))
        {
            report.WriteText(writer);
        }

        (FileStream json, string jsonPath) = Create(stem, ".nativeleaks.json");
        using (json)
        {
            report.WriteJson(json);
        }

        return (textPath, jsonPath);
    }

    private static (FileStream Stream, string Path) Create(string stem, string extension)
    {
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }

        // Repetitions and retries of a test have the same name. Creating the file, not looking for it, is what takes the name.
        for (int attempt = 1; ; attempt++)
        {
            string path = attempt == 1 ? stem + extension : $"{stem}-{attempt}{extension}";
            try
            {
                return (new FileStream(path, options), path);
            }
            catch (IOException) when (attempt < 10_000 && Path.Exists(path))
            {
            }
        }
    }

    private static string FileNameOf(string testName)
    {
        const int MaxLength = 100;
        var name = new StringBuilder();
        foreach (char c in testName ?? "")
        {
            name.Append(char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-' ? c : '_');
        }

        string text = name.ToString().TrimStart('.');
        return text.Length == 0 ? "test" : text.Length <= MaxLength ? text : text[..MaxLength];
    }
}
