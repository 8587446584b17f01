using System.Diagnostics;

namespace VerdictPeers;

internal static class Processes
{
    private static readonly TimeSpan s_timeout = TimeSpan.FromMinutes(3);

    /// <summary>Runs a program to its end. One that hangs is killed and throws.</summary>
    public static (string Output, string Error) Run(string program, IEnumerable<string> arguments, (string Name, string Value)[] environment)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach ((string name, string value) in environment)
        {
            start.Environment[name] = value;
        }

        using Process process = Process.Start(start)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> error = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(s_timeout))
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException($"{program} did not end within {s_timeout}.");
        }

        return (output.Result, error.Result);
    }

    /// <summary>The first line of what a command prints; null if there is no such command.</summary>
    public static string? FirstLine(string program, params string[] arguments)
    {
        try
        {
            return Run(program, arguments, []).Output.Split('\n')[0];
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return null;
        }
    }
}
