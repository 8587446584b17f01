using System.Diagnostics;

namespace NativeLeaks.Tests;

/// <summary>A program that ran to its end.</summary>
internal sealed record ChildResult(int Pid, int ExitCode, string Output, string Error);

/// <summary>Runs real programs, with nothing of this test run's own tracking in their environment.</summary>
internal static class ChildProcess
{
    /// <summary>Records from the first instruction.</summary>
    public static readonly (string Name, string Value) Preload = ("LD_PRELOAD", RepositoryPaths.Shim);

    // Far more than any of them needs; it only turns a hang into a failure that shows what was printed.
    private static readonly TimeSpan s_timeout = TimeSpan.FromMinutes(2);

    /// <summary>Runs one of the programs that are built beside the tests: the sample, or one of tests/fixtures.</summary>
    public static ChildResult RunManaged(
        string program, IEnumerable<string> arguments, params (string Name, string Value)[] environment) =>
        Run(DotnetHost, [RepositoryPaths.ChildProgram(program), .. arguments], environment);

    /// <summary>Runs any program. One that hangs is killed and throws.</summary>
    public static ChildResult Run(
        string program, IEnumerable<string> arguments, params (string Name, string Value)[] environment)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            // A program that is meant to crash may leave a core file.
            WorkingDirectory = Path.GetTempPath(),
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var foreign in start.Environment.Keys.Where(IsForeign).ToList())
        {
            start.Environment.Remove(foreign);
        }

        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(s_timeout))
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException($"{program} did not end within {s_timeout}.\n{output.Result}{error.Result}");
        }

        return new ChildResult(process.Id, process.ExitCode, output.Result, error.Result);
    }

    public static string DotnetHost => Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet";

    private static bool IsForeign(string name) =>
        name is "LD_PRELOAD" ||
        name.StartsWith("NATIVELEAKS", StringComparison.Ordinal) ||
        name.StartsWith("DOTNET_DbgEnable", StringComparison.Ordinal) ||
        name.StartsWith("VSTEST", StringComparison.Ordinal);
}
