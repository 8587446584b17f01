namespace NativeLeaks.Tests.Consumers;

/// <summary>The repository's packages as their users get them: packed once for all tests of this namespace.</summary>
[SetUpFixture]
public sealed class PackedPackages
{
    private static readonly string[] s_projects =
        ["NativeLeakTracker", "NativeLeakTracker.MSTest", "NativeLeakTracker.NUnit", "NativeLeakTracker.XunitV3"];

    /// <summary>Of all packages; new in each run, because NuGet never looks twice at a version that it has seen.</summary>
    internal static string Version { get; } = $"0.0.0-test.{DateTime.UtcNow.Ticks}";

    /// <summary>Names of the packages.</summary>
    internal static IReadOnlyList<string> Names => s_projects;

    /// <summary>A folder that is a package source, and others for what comes and goes with it.</summary>
    internal static string Folder { get; private set; } = "";

    [OneTimeSetUp]
    public void Pack()
    {
        Folder = Directory.CreateTempSubdirectory("nativeleaks-packages-").FullName;
        foreach (string project in s_projects)
        {
            var (exitCode, output) = DotnetCommand.Run(
                RepositoryPaths.Root,
                "pack", $"src/{project}/{project}.csproj",
                "--configuration", "Release",
                "--output", Folder,
                // Only the packages get the version, and what is written on the way goes elsewhere: the repository's own
                // next build finds everything up to date.
                "--no-restore",
                $"-p:PackageVersion={Version}",
                $"-p:NuspecOutputPath={Path.Combine(Folder, "nuspec", project)}");
            Assert.That(exitCode, Is.Zero, output);
        }
    }

    [OneTimeTearDown]
    public void Remove() => Directory.Delete(Folder, recursive: true);
}
