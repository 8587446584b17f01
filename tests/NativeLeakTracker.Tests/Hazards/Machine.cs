namespace NativeLeaks.Tests.Hazards;

/// <summary>What the machine has and a test needs. A test that misses something is skipped, with the reason.</summary>
internal static class Machine
{
    private const string Libraries = "/usr/lib/x86_64-linux-gnu";

    public static string Tool(string name)
    {
        string? path = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':')
            .Select(folder => Path.Combine(folder, name)).FirstOrDefault(File.Exists);
        if (path is null)
        {
            Assert.Ignore($"{name} is not installed here.");
        }

        return path!;
    }

    public static void RequireRoot()
    {
        if (!Environment.IsPrivilegedProcess)
        {
            Assert.Ignore("Only root can prepare this.");
        }
    }

    /// <summary>A library of Debian's, installed if we are root and the package can be had.</summary>
    public static string Library(string fileName, string package)
    {
        string path = Path.Combine(Libraries, fileName);
        if (!File.Exists(path))
        {
            TryInstall(package);
        }

        if (!File.Exists(path))
        {
            Assert.Ignore($"{fileName} is not installed here (Debian: {package}).");
        }

        return path;
    }

    /// <summary>Runs a shell's script where it can mount what it likes: no one else sees it.</summary>
    public static ChildResult RunInOwnMounts(string script, params string[] arguments)
    {
        RequireRoot();
        string unshare = Tool("unshare");
        if (ChildProcess.Run(unshare, ["--mount", "mount", "-t", "tmpfs", "none", "/mnt"]).ExitCode != 0)
        {
            Assert.Ignore("This machine does not let even root mount anything (a container without CAP_SYS_ADMIN?).");
        }

        return ChildProcess.Run(unshare, ["--mount", "/bin/sh", "-e", "-c", script, "sh", .. arguments]);
    }

    private static void TryInstall(string package)
    {
        if (!Environment.IsPrivilegedProcess || !File.Exists("/usr/bin/apt-get"))
        {
            return;
        }

        try
        {
            ChildProcess.Run(
                "/usr/bin/apt-get",
                ["install", "--yes", "--no-install-recommends", package],
                ("DEBIAN_FRONTEND", "noninteractive"));
        }
        catch (TimeoutException)
        {
            // No network, most likely: the library is not there, then.
        }
    }
}
