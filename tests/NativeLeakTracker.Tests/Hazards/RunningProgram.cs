using System.Diagnostics;

namespace NativeLeaks.Tests.Hazards;

/// <summary>A child process that says "ready" and waits for the end of its input. Killed, if need be, by Dispose().</summary>
internal sealed class RunningProgram : IDisposable
{
    // Far more than any of them needs; it only turns a hang into a failure.
    private static readonly TimeSpan s_timeout = TimeSpan.FromMinutes(1);
    private readonly Process _process;
    private readonly Task<string> _error;

    private RunningProgram(Process process, string readyLine, Action<string> other)
    {
        _process = process;
        _error = process.StandardError.ReadToEndAsync();
        Task<string?> line = ReadUntil(process.StandardOutput, readyLine, other);
        if (!line.Wait(s_timeout) || line.Result is null)
        {
            Kill();
            Dispose();
            throw new InvalidOperationException($"{process.StartInfo.FileName} was not ready: {_error.Result}");
        }
    }

    public int Pid => _process.Id;

    public string Error => _error.Result;

    public static RunningProgram Start(
        string program, IEnumerable<string> arguments, params (string Name, string Value)[] environment) =>
        StartUntil("ready", program, arguments, environment);

    public static RunningProgram StartManaged(IEnumerable<string> arguments, params (string Name, string Value)[] environment) =>
        Start(ChildProcess.DotnetHost, [RepositoryPaths.ChildProgram("Hazards"), .. arguments], environment);

    /// <summary>For a program that says in other words that it is ready: a line that contains them.</summary>
    public static RunningProgram StartUntil(
        string readyLine, string program, IEnumerable<string> arguments, params (string Name, string Value)[] environment) =>
        StartUntil(readyLine, program, arguments, static _ => { }, environment);

    /// <summary>The same, with whatever it says before.</summary>
    public static RunningProgram StartUntil(
        string readyLine,
        string program,
        IEnumerable<string> arguments,
        Action<string> other,
        params (string Name, string Value)[] environment)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = Path.GetTempPath(),
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (string foreign in start.Environment.Keys.Where(IsForeign).ToList())
        {
            start.Environment.Remove(foreign);
        }

        foreach ((string name, string value) in environment)
        {
            start.Environment[name] = value;
        }

        return new RunningProgram(Process.Start(start)!, readyLine, other);
    }

    /// <summary>Ends the program's input, waits for its end and returns its exit code.</summary>
    public int Finish()
    {
        _process.StandardInput.Close();
        return WaitForExit();
    }

    public int WaitForExit()
    {
        _ = _process.StandardOutput.ReadToEndAsync();
        if (!_process.WaitForExit(s_timeout))
        {
            Kill();
            throw new TimeoutException($"{_process.StartInfo.FileName} did not end within {s_timeout}.");
        }

        return _process.ExitCode;
    }

    /// <summary>SIGKILL.</summary>
    public void Kill()
    {
        _process.Kill();
        _process.WaitForExit();
    }

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            Kill();
        }

        _process.Dispose();
    }

    // This test run's own tracking.
    private static bool IsForeign(string variable) =>
        variable == "LD_PRELOAD" || variable.StartsWith("NATIVELEAKS", StringComparison.Ordinal);

    private static async Task<string?> ReadUntil(StreamReader output, string readyLine, Action<string> other)
    {
        string? line;
        while ((line = await output.ReadLineAsync()) is not null && !line.Contains(readyLine, StringComparison.Ordinal))
        {
            other(line);
        }

        return line;
    }
}
