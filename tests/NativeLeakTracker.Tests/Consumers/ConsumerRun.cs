using System.Xml.Linq;

namespace NativeLeaks.Tests.Consumers;

/// <summary>A test of a consumer, as the trx file has it.</summary>
/// <param name="Outcome">Passed, Failed, or NotExecuted for what was skipped or was inconclusive.</param>
/// <param name="Message">The failure's.</param>
/// <param name="Output">What the test wrote.</param>
/// <param name="Attachments">Paths of attached files.</param>
internal sealed record ConsumerResult(string Outcome, string Message, string Output, IReadOnlyList<string> Attachments);

/// <summary>
/// A user's test project: a folder of tests, copied into an empty one outside the repository, where it knows the tracker only as
/// packages and runs under a plain <c>dotnet test</c>.
/// </summary>
internal sealed class ConsumerRun : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly string _project;
    private int _runs;

    /// <summary>Makes the project of one of the folders under tests.</summary>
    public ConsumerRun(params string[] sources)
    {
        _project = Directory.CreateDirectory(_folder.File("project")).FullName;
        foreach (string file in Directory.EnumerateFiles(Path.Combine([RepositoryPaths.Root, "tests", .. sources])))
        {
            File.Copy(file, Path.Combine(_project, Path.GetFileName(file)));
        }

        // The versions of the repository, and the packages just made.
        var versions = XDocument.Load(Path.Combine(RepositoryPaths.Root, "Directory.Packages.props"));
        versions.Root!.Add(new XElement(
            "ItemGroup", PackedPackages.Names.Select(name => PackageVersion(name, $"[{PackedPackages.Version}]"))));
        versions.Save(Path.Combine(_project, "Directory.Packages.props"));

        // MSBuild looks upwards for these; found here, nothing above the folder takes part.
        new XDocument(new XElement("Project")).Save(Path.Combine(_project, "Directory.Build.props"));
        new XDocument(new XElement("Project")).Save(Path.Combine(_project, "Directory.Build.targets"));

        // Adds to the user's sources. Packages that the repository's restore brought are used where they lie; those under
        // test are unpacked here and go with the folder.
        new XDocument(
            new XElement("configuration",
                new XElement("packageSources", Setting("packages-under-test", PackedPackages.Folder)),
                new XElement("fallbackPackageFolders", Setting("repository", RepositoryPaths.RestoredPackages)),
                new XElement("config", Setting("globalPackagesFolder", _folder.File("restored")))))
            .Save(Path.Combine(_project, "NuGet.config"));

        static XElement PackageVersion(string name, string version) =>
            new("PackageVersion", new XAttribute("Include", name), new XAttribute("Version", version));

        static XElement Setting(string key, string value) =>
            new("add", new XAttribute("key", key), new XAttribute("value", value));
    }

    /// <summary>The folder that the project's build fills.</summary>
    public string Output => Path.Combine(_project, "bin", "Release", "net10.0");

    /// <summary>Runs the tests: their results by name.</summary>
    public Dictionary<string, ConsumerResult> Test(params string[] options)
    {
        string results = _folder.File($"results-{_runs++}");
        var (_, output) = DotnetCommand.Run(
            _project,
            ["test", "--configuration", "Release", "--logger", "trx;LogFileName=results.trx", "--results-directory", results, .. options]);
        TestContext.Out.WriteLine(output);
        string trx = Path.Combine(results, "results.trx");
        Assert.That(trx, Does.Exist, $"dotnet test did not get as far as running the tests:\n{output}");
        return ReadResults(trx, results);
    }

    public void Dispose() => _folder.Dispose();

    private static Dictionary<string, ConsumerResult> ReadResults(string trx, string folder)
    {
        XNamespace ns = "http://microsoft.com/schemas/VisualStudio/TeamTest/2010";
        XElement run = XDocument.Load(trx).Root!;
        string root = run.Descendants(ns + "Deployment").First().Attribute("runDeploymentRoot")!.Value;
        return run.Descendants(ns + "UnitTestResult").ToDictionary(
            static result => result.Attribute("testName")!.Value,
            result => new ConsumerResult(
                result.Attribute("outcome")!.Value,
                result.Descendants(ns + "Message").FirstOrDefault()?.Value ?? "",
                result.Descendants(ns + "StdOut").FirstOrDefault()?.Value ?? "",
                [.. result.Descendants(ns + "ResultFile").Select(file => Path.Combine(
                    folder, root, "In", result.Attribute("relativeResultsDirectory")!.Value, file.Attribute("path")!.Value))]));
    }
}
