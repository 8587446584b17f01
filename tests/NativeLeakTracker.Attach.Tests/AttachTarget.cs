using System.Text.Json;
using NativeLeaks.Tests;
using NativeLeaks.Tests.Hazards;

namespace NativeLeaks.Attach.Tests;

/// <summary>A frame as System.Diagnostics.StackTrace saw it in the process itself.</summary>
internal sealed record NotedFrame(string Method, string? Type, int Token, string Module, int IlOffset);

/// <summary>One stack: its return addresses, and the managed frames. Both innermost first.</summary>
internal sealed record Note(string Situation, ulong[] Addresses, NotedFrame[] Frames);

/// <summary>tests/fixtures/AttachTarget, waiting after it stood in all its situations.</summary>
internal sealed class AttachTarget : IDisposable
{
    private readonly TemporaryFolder _folder;
    private readonly RunningProgram _program;

    private AttachTarget(TemporaryFolder folder, RunningProgram program, Note[] notes)
    {
        _folder = folder;
        _program = program;
        Notes = notes;
    }

    public int Pid => _program.Pid;

    public Note[] Notes { get; }

    /// <summary>Run by the installed runtime.</summary>
    public static AttachTarget Start() => Start(ChildProcess.DotnetHost, [RepositoryPaths.ChildProgram("AttachTarget")]);

    /// <summary>The same, recorded from its first instruction into a ledger in a file.</summary>
    public static AttachTarget StartRecorded(string ledger) => Start(
        ChildProcess.DotnetHost, [RepositoryPaths.ChildProgram("AttachTarget")], ChildProcess.Preload, ("NATIVELEAKS_LEDGER", ledger));

    /// <summary>A program that brings its runtime.</summary>
    public static AttachTarget StartPublished(string program) => Start(program, []);

    public void Kill() => _program.Kill();

    public void Dispose()
    {
        _program.Dispose();
        _folder.Dispose();
    }

    private static AttachTarget Start(string program, string[] arguments, params (string Name, string Value)[] environment)
    {
        var folder = new TemporaryFolder();
        string notes = folder.File("notes.json");
        var running = RunningProgram.Start(program, [.. arguments, RepositoryPaths.Shim, notes], environment);
        return new AttachTarget(folder, running, JsonSerializer.Deserialize<Note[]>(File.ReadAllText(notes))!);
    }
}
