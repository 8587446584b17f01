namespace NativeLeaks.Attach;

/// <summary>What can be told of a process from outside, before anything is asked of its runtime.</summary>
/// <param name="RuntimePath">Its libcoreclr.so; null for a runtime that is part of the program, and for none.</param>
internal sealed record TargetProcess(string? RuntimePath)
{
    private const string RuntimeName = "/libcoreclr.so";

    /// <exception cref="AttachException">There is no such process, or it may not be looked into.</exception>
    public static TargetProcess Find(int pid)
    {
        if (pid <= 0 || !Directory.Exists($"/proc/{pid}"))
        {
            throw new AttachException($"There is no process {pid}: it may have ended. Look for it with 'ps'.");
        }

        if (pid == Environment.ProcessId)
        {
            throw new AttachException("A process cannot attach to itself. Use NativeLeakTracker.Start() in it.");
        }

        try
        {
            return new TargetProcess(FindRuntime(File.ReadLines($"/proc/{pid}/maps")));
        }
        catch (Exception e) when (e is UnauthorizedAccessException or System.Security.SecurityException)
        {
            throw new AttachException(
                $"Process {pid} may not be looked into by this user. Run as the user that it runs as, or as root.", e);
        }
        catch (IOException e)
        {
            throw new AttachException($"Process {pid} has ended, or cannot be looked into ({e.Message.Split('\n')[0]}).", e);
        }
    }

    // The sixth field, and the rest of the line: a path may have blanks in it.
    private static string? FindRuntime(IEnumerable<string> maps)
    {
        foreach (string line in maps)
        {
            int path = line.IndexOf('/', StringComparison.Ordinal);
            if (path > 0 && line.EndsWith(RuntimeName, StringComparison.Ordinal))
            {
                return line[path..];
            }
        }

        return null;
    }
}
