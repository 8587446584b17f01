using System.Globalization;
using System.Runtime.InteropServices;
using NativeLeaks.Heap;
using NativeLeaks.Tests.Hazards;

namespace NativeLeaks.Tests.Heap;

/// <summary>tests/fixtures/HeapShapes, which can be made to stand still, and says where its native blocks are.</summary>
internal sealed partial class StoppedProgram : IDisposable
{
    private const int Stop = 19, Continue = 18;

    private readonly RunningProgram _program;

    private StoppedProgram(RunningProgram program, Dictionary<ulong, string> blocks)
    {
        _program = program;
        Blocks = blocks;
    }

    /// <summary>Bytes of each.</summary>
    public const int BlockBytes = 64;

    /// <summary>Where they are, and who was told to hold them.</summary>
    public Dictionary<ulong, string> Blocks { get; }

    public static StoppedProgram Start(string mode, params (string Name, string Value)[] environment)
    {
        List<string> lines = [];
        var program = RunningProgram.StartUntil(
            "ready", ChildProcess.DotnetHost, [RepositoryPaths.ChildProgram("HeapShapes"), mode], lines.Add, environment);
        return new StoppedProgram(program, lines.Select(static l => l.Split(' ', 2))
            .ToDictionary(static l => ulong.Parse(l[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture), static l => l[1]));
    }

    /// <summary>All its threads stand still until it goes on.</summary>
    public StandingProcess StandStill()
    {
        Assert.That(Signal(_program.Pid, Stop), Is.Zero);
        string tasks = $"/proc/{_program.Pid.ToString(CultureInfo.InvariantCulture)}/task";
        while (Directory.GetDirectories(tasks).Any(static task => !IsStopped(task)))
        {
            Thread.Sleep(1);
        }

        return new StandingProcess(_program.Pid);
    }

    public void GoOn() => Assert.That(Signal(_program.Pid, Continue), Is.Zero);

    public PointerTargets Targets() => new([.. Blocks.Keys.Order().Select(static block => new NativeNode(block, BlockBytes))]);

    public void Dispose() => _program.Dispose();

    // "T (stopped)"; a thread that has ended meanwhile stands still, too.
    private static bool IsStopped(string task)
    {
        try
        {
            return File.ReadLines(Path.Combine(task, "status")).First(static l => l.StartsWith("State:", StringComparison.Ordinal)).Contains('T');
        }
        catch (Exception e) when (e is IOException or InvalidOperationException)
        {
            return true;
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Signal(int process, int signal);
}
