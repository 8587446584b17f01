using System.Xml.Linq;

namespace NativeLeaks.Tests;

/// <summary>
/// The package as its users meet it: tests/consumer, copied into an empty folder outside the repository, knows the
/// tracker only as a packed package and runs under a plain <c>dotnet test</c>. Some of its tests must fail; here is
/// asserted which, and with what message.
/// </summary>
[TestFixture]
public sealed class ConsumerPackageTests
{
    // The test of the consumer, and what else than its own name the report must contain.
    private static readonly object[][] s_leaking =
    [
        // Marshal.AllocHGlobal jumps to NativeMemory.Alloc; its frame is put back, and the message shows it as the call.
        ["AllocHGlobal_forgotten", new[] { "1 block", "321 bytes", "Marshal.AllocHGlobal", "Marshal.FreeHGlobal" }],
        ["NativeMemory_Alloc_forgotten", new[] { "1 block", "321 bytes", "NativeMemory.Alloc" }],
        ["StringToCoTaskMemUTF8_forgotten", new[] { "1 block", "Marshal.StringToCoTaskMemUTF8" }],
        ["Sqlite_allocation_forgotten", new[] { "1 block", "libe_sqlite3.so" }],
    ];

    private static readonly string[] s_passing =
    [
        "AllocHGlobal_freed",
        "NativeMemory_Alloc_freed",
        "StringToCoTaskMemUTF8_freed",
        "Sqlite_allocation_freed",
        "Libc_malloc_kept_300_times_is_300_leaks",
        "Libc_free_of_1000_native_blocks_leaves_none",
        "Libc_malloc_bound_before_Start_and_kept_300_times_is_300_leaks",
        "Libc_free_bound_before_Start_of_1000_native_blocks_leaves_none",
    ];

    private string _folder = "";
    private Dictionary<string, ConsumerResult> _results = [];

    [OneTimeSetUp]
    public void Pack_and_run_the_consumer()
    {
        _folder = Directory.CreateTempSubdirectory("nativeleaks-consumer-").FullName;
        var project = Path.Combine(_folder, "project");
        var packages = Path.Combine(_folder, "packages");

        // A version of its own: NuGet never looks twice at a version that it has seen.
        var version = $"0.0.0-test.{DateTime.UtcNow.Ticks}";
        Pack(version, packages);
        CreateConsumer(project, packages, version);

        var (_, output) = DotnetCommand.Run(
            project, "test", "--logger", "trx;LogFileName=consumer.trx", "--results-directory", _folder);
        TestContext.Out.WriteLine(output);

        var trx = Path.Combine(_folder, "consumer.trx");
        Assert.That(trx, Does.Exist, $"dotnet test did not get as far as running the tests:\n{output}");
        _results = ReadResults(trx);
    }

    [OneTimeTearDown]
    public void Remove_the_consumer() => Directory.Delete(_folder, recursive: true);

    [TestCaseSource(nameof(s_leaking))]
    public void Leaking_test_fails_and_names_itself(string test, string[] parts)
    {
        var result = _results[test];

        Assert.That(result.Outcome, Is.EqualTo("Failed"));
        Assert.That(result.Message, Does.Contain("NativeLeakException").And.Contain($"{test}()"));
        foreach (var part in parts)
        {
            Assert.That(result.Message, Does.Contain(part));
        }
    }

    [TestCaseSource(nameof(s_passing))]
    public void Test_passes(string test)
    {
        var result = _results[test];

        Assert.That(result.Outcome, Is.EqualTo("Passed"), result.Message);
    }

    [Test]
    public void No_test_of_the_consumer_is_left_unjudged() =>
        Assert.That(_results.Keys, Is.EquivalentTo(s_leaking.Select(row => row[0]).Concat(s_passing)));

    private void Pack(string version, string packages)
    {
        var (exitCode, output) = DotnetCommand.Run(
            RepositoryPaths.Root,
            "pack", "src/NativeLeakTracker/NativeLeakTracker.csproj",
            "--configuration", "Release",
            "--output", packages,
            // Only the package gets the version, and what is written on the way goes elsewhere: the repository's own
            // next build finds everything up to date.
            "--no-restore",
            $"-p:PackageVersion={version}",
            $"-p:NuspecOutputPath={Path.Combine(_folder, "nuspec")}");
        Assert.That(exitCode, Is.Zero, output);
    }

    private void CreateConsumer(string project, string packages, string version)
    {
        Directory.CreateDirectory(project);
        foreach (var file in Directory.EnumerateFiles(Path.Combine(RepositoryPaths.Root, "tests", "consumer")))
        {
            File.Copy(file, Path.Combine(project, Path.GetFileName(file)));
        }

        // The versions of the repository, and the package just made.
        var versions = XDocument.Load(Path.Combine(RepositoryPaths.Root, "Directory.Packages.props"));
        versions.Root!.Add(new XElement("ItemGroup", PackageVersion("NativeLeakTracker", $"[{version}]")));
        versions.Save(Path.Combine(project, "Directory.Packages.props"));

        // MSBuild looks upwards for these; found here, nothing above the folder takes part.
        new XDocument(new XElement("Project")).Save(Path.Combine(project, "Directory.Build.props"));
        new XDocument(new XElement("Project")).Save(Path.Combine(project, "Directory.Build.targets"));

        // Adds to the user's sources. Packages that the repository's restore brought are used where they lie; the one
        // under test is unpacked here and goes with the folder.
        new XDocument(
            new XElement("configuration",
                new XElement("packageSources", Setting("packages-under-test", packages)),
                new XElement("fallbackPackageFolders", Setting("repository", RepositoryPaths.RestoredPackages)),
                new XElement("config", Setting("globalPackagesFolder", Path.Combine(_folder, "restored")))))
            .Save(Path.Combine(project, "NuGet.config"));

        static XElement PackageVersion(string name, string version) =>
            new("PackageVersion", new XAttribute("Include", name), new XAttribute("Version", version));

        static XElement Setting(string key, string value) =>
            new("add", new XAttribute("key", key), new XAttribute("value", value));
    }

    private static Dictionary<string, ConsumerResult> ReadResults(string trx)
    {
        XNamespace ns = "http://microsoft.com/schemas/VisualStudio/TeamTest/2010";
        return XDocument.Load(trx).Descendants(ns + "UnitTestResult").ToDictionary(
            result => result.Attribute("testName")!.Value,
            result => new ConsumerResult(
                result.Attribute("outcome")!.Value,
                result.Descendants(ns + "Message").FirstOrDefault()?.Value ?? ""));
    }

    private sealed record ConsumerResult(string Outcome, string Message);
}
