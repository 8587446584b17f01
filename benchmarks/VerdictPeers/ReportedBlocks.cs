namespace VerdictPeers;

/// <summary>Blocks of one stack that a tool calls leaked.</summary>
/// <param name="Frames">Innermost first.</param>
internal sealed record ReportedBlocks(IReadOnlyList<(string Module, string Function)> Frames, long Blocks, long Bytes)
{
    private const int FramesThatTell = 6;

    // The tools' own interceptors count as part of the C runtime that they stand for.
    private static readonly string[] s_cRuntime =
        ["libc.so", "libc-", "ld-linux", "libstdc++", "libgcc_s", "libm.so", "libpthread", "libdl", "liblsan", "libheaptrack", "vgpreload"];

    private static readonly string[] s_dotnet = ["libcoreclr.so", "libclrjit.so", "libclrgc", "libhostfxr.so", "libhostpolicy.so", "dotnet"];

    /// <summary>
    /// The .NET runtime's own, by the rule that we go by ourselves (docs/verdicts.md): nobody is blamed for them, so no tool is for
    /// reporting them.
    /// </summary>
    public bool IsRuntimes => Frames.FirstOrDefault(static f => !Is(f.Module, s_cRuntime)) is var (module, _) && (module is null || Is(module, s_dotnet));

    /// <summary>Where they were allocated, as far as two runs of a program agree about that: code of the JIT has other addresses in each.</summary>
    public string Place => string.Join(';', Frames.Take(FramesThatTell).Select(static f => $"{f.Module}!{f.Function}"));

    private static bool Is(string module, string[] names) => Array.Exists(names, n => module.StartsWith(n, StringComparison.Ordinal));
}
