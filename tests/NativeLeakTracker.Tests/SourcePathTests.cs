using System.Runtime.Versioning;
using System.Text.Json;
using NativeLeaks.Symbols;

namespace NativeLeaks.Tests;

/// <summary>
/// How source files are shown: with the prefix that NATIVELEAKS_PATH_MAP asks for, and with the link of a PDB that carries SourceLink
/// (tests/fixtures/StackSituationsUnoptimised). PDBs are found in the folders of NATIVELEAKS_SYMBOL_PATH.
/// </summary>
[TestFixture]
[SupportedOSPlatform("linux")]
public sealed class SourcePathTests
{
    private static readonly string[] s_servers = ["https://symbols.invalid/"];

    [Test]
    public void Frames_of_a_PDB_with_SourceLink_have_a_link_to_their_line()
    {
        JsonElement frame = FrameOf("StackSituations.Interop.HGlobal()");

        int line = frame.GetProperty("line").GetInt32();
        Assert.That(
            frame.GetProperty("link").GetString(),
            Is.EqualTo($"https://source.invalid/raw/tests/fixtures/StackSituations/Interop.cs#L{line}"));
    }

    [Test]
    public void Path_prefixes_are_mapped()
    {
        JsonElement frame = FrameOf("StackSituations.Interop.HGlobal()", ("NATIVELEAKS_PATH_MAP", $"/nowhere=/a;{RepositoryPaths.Root}=/mapped/;{RepositoryPaths.Root}=/never/"));

        Assert.That(frame.GetProperty("file").GetString(), Is.EqualTo("/mapped/tests/fixtures/StackSituations/Interop.cs"));
    }

    [Test]
    public void Pdb_is_found_through_the_symbol_path_and_only_there()
    {
        using var program = new TemporaryFolder();
        using var symbols = new TemporaryFolder();
        string built = RepositoryPaths.ChildProgram("StackSituationsUnoptimised"), folder = Path.GetDirectoryName(built)!;
        foreach (string file in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories))
        {
            bool isPdb = file.EndsWith("StackSituationsUnoptimised.pdb", StringComparison.Ordinal);
            string copy = Path.Combine(isPdb ? symbols.File("") : program.File(""), isPdb ? Path.GetFileName(file) : Path.GetRelativePath(folder, file));
            Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(file, copy);
        }

        string moved = program.File(Path.GetFileName(built));
        JsonElement without = FrameIn(moved, "StackSituations.Interop.HGlobal()");
        JsonElement with = FrameIn(moved, "StackSituations.Interop.HGlobal()", ("NATIVELEAKS_SYMBOL_PATH", "/nowhere:" + symbols.File("")));

        Assert.That(without.GetProperty("line").ValueKind, Is.EqualTo(JsonValueKind.Null));
        Assert.That(with.GetProperty("line").GetInt32(), Is.Positive);
    }

    [Test]
    public void Nothing_that_is_no_address_of_a_server_is_asked()
    {
        SymbolSettings settings = SymbolSettings.From(
            static name => name == "DEBUGINFOD_URLS" ? "ftp://host/ nonsense file:///etc https://symbols.invalid/" : null);

        Assert.That(settings.DebuginfodServers.Select(static server => server.ToString()), Is.EqualTo(s_servers));
        Assert.That(SymbolSettings.From(static _ => null).DebuginfodServers, Is.Empty);
    }

    private static JsonElement FrameOf(string method, params (string, string)[] environment) =>
        FrameIn(RepositoryPaths.ChildProgram("StackSituationsUnoptimised"), method, environment);

    private static JsonElement FrameIn(string program, string method, params (string, string)[] environment)
    {
        using var folder = new TemporaryFolder();
        var run = ChildProcess.Run(
            ChildProcess.DotnetHost,
            [program, RepositoryPaths.NativeFixtures, folder.File("notes.json")],
            [("NATIVELEAKS_REPORT", folder.File("report.json")), .. environment]);
        Assert.That(run.ExitCode, Is.Zero, run.Error);
        return JsonReportFile.Read(folder.File("report.json")).OutstandingElements
            .SelectMany(static leak => leak.GetProperty("stack").EnumerateArray())
            .First(frame => frame.GetProperty("method").GetString() == method);
    }
}
