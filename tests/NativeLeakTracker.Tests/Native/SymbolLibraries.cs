using NativeLeaks.Symbols;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Tests.Native;

/// <summary>The libraries of tests/native/fixtures/symbols, and variants of them that tests make.</summary>
internal static class SymbolLibraries
{
    private static readonly string s_root = Path.Combine(RepositoryPaths.NativeFixtures, "symbols");

    /// <summary>A library as it was built in some way; a test that asks for one whose compiler is not here is ignored.</summary>
    public static string PathOf(string variant, string name)
    {
        var path = Path.Combine(s_root, variant, $"lib{name}.so");
        if (!File.Exists(path))
        {
            Assert.Ignore($"{variant}/lib{name}.so was not built: its compiler or tool is not installed");
        }

        return path;
    }

    /// <summary>Copies a library, strips the copy, and moves its debug information to another file.</summary>
    public static string Split(string library, string folder, string debugFile, params string[] strip)
    {
        Directory.CreateDirectory(folder);
        Directory.CreateDirectory(Path.GetDirectoryName(debugFile)!);
        var stripped = Path.Combine(folder, Path.GetFileName(library));
        Objcopy("--only-keep-debug", library, debugFile);
        Objcopy([.. strip, library, stripped]);
        return stripped;
    }

    public static void Objcopy(params string[] arguments)
    {
        var run = ChildProcess.Run("objcopy", arguments);
        Assert.That(run.ExitCode, Is.Zero, run.Error);
    }

    /// <summary>Where the debug file of a build lies below a folder.</summary>
    public static string BuildIdFile(string folder, string library)
    {
        using var symbols = NativeSymbols.Open(library, SymbolSettings.None);
        var id = symbols.BuildId;
        Assert.That(id, Has.Length.EqualTo(40));
        return Path.Combine(folder, ".build-id", id![..2], id[2..] + ".debug");
    }

    /// <summary>Every address of the library's .text section, and some before and behind.</summary>
    public static List<ulong> TextAddresses(string library, int atMost = int.MaxValue)
    {
        using var file = ElfFile.TryOpen(library, new MemoryAllowance(), new SymbolProblems())!;
        var text = file.Section(".text")!.Value;
        var step = Math.Max(1, text.Size / (ulong)atMost);
        List<ulong> addresses = [];
        for (var address = text.Address; address < text.Address + text.Size; address += step)
        {
            addresses.Add(address);
        }

        return addresses;
    }
}
