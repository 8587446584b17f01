namespace NativeLeaks.Analysis;

/// <summary>Assemblies that run tests. What they allocate for themselves, talking to the command line for one, is no test's.</summary>
internal static class TestPlatform
{
    private static readonly string[] s_prefixes =
    [
        "testhost", "Microsoft.TestPlatform.", "Microsoft.VisualStudio.TestPlatform.", "Microsoft.VisualStudio.TestTools.",
        "Microsoft.Testing.", "MSTest", "nunit.", "NUnit3.", "xunit.", "TUnit.",
    ];

    public static bool Owns(string? module) =>
        module is not null && Array.Exists(s_prefixes, prefix => module.StartsWith(prefix, StringComparison.OrdinalIgnoreCase));
}
