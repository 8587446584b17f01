using System.Diagnostics;

namespace NativeLeaks.Tests;

/// <summary>Runs the SDK's command line as a user's shell would: nothing of this test run leaks into it.</summary>
internal static class DotnetCommand
{
    // Far more than any run needs; it only turns a hang into a failure that shows what was printed.
    private static readonly TimeSpan s_timeout = TimeSpan.FromMinutes(10);

    /// <summary>Returns the exit code and everything printed. A command that hangs is killed and throws.</summary>
    public static (int ExitCode, string Output) Run(string workingDirectory, params string[] arguments)
    {
        var start = new ProcessStartInfo(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet", arguments)
        {
            WorkingDirectory = workingDirectory,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        CleanEnvironment(start.Environment);

        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(s_timeout))
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException(
                $"dotnet {string.Join(' ', arguments)} did not end within {s_timeout}.\n{output.Result}{error.Result}");
        }

        return (process.ExitCode, output.Result + error.Result);
    }

    private static void CleanEnvironment(IDictionary<string, string?> environment)
    {
        // Besides our own switches, what the SDK and the test platform hand to the processes below them, and what
        // would override the package folders of the NuGet.config in the working directory.
        string[] foreign = ["LD_PRELOAD", "NATIVELEAKS", "MSBUILD", "VSTEST", "NUGET_PACKAGES"];
        var names = environment.Keys
            .Where(name => foreign.Any(prefix => name.StartsWith(prefix, StringComparison.OrdinalIgnoreCase)));
        foreach (var name in names.ToList())
        {
            environment.Remove(name);
        }

        // A build server that outlives the command would keep our ends of its output pipes open.
        environment["MSBUILDDISABLENODEREUSE"] = "1";
        environment["DOTNET_CLI_USE_MSBUILD_SERVER"] = "0";
        environment["UseSharedCompilation"] = "false";
    }
}
