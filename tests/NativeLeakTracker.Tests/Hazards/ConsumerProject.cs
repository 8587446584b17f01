using System.Xml.Linq;

namespace NativeLeaks.Tests.Hazards;

/// <summary>
/// The tests of tests/consumer in a project of their own that coverlet.collector may join. It refers to the library as
/// it was built here: ConsumerPackageTests has the package.
/// </summary>
internal sealed class ConsumerProject : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly string _project;
    private int _runs;

    public ConsumerProject()
    {
        _project = Directory.CreateDirectory(_folder.File("project")).FullName;
        File.Copy(
            Path.Combine(RepositoryPaths.Root, "tests", "consumer", "AllocationTests.cs"),
            Path.Combine(_project, "AllocationTests.cs"));
        string library = Path.Combine(RepositoryPaths.Root, "src", "NativeLeakTracker");
        new XDocument(
            new XElement("Project",
                new XAttribute("Sdk", "Microsoft.NET.Sdk"),
                new XElement("PropertyGroup",
                    new XElement("TargetFramework", "net10.0"),
                    new XElement("AllowUnsafeBlocks", "true"),
                    new XElement("NoWarn", "NETSDK1206")),
                new XElement("ItemGroup",
                    Package("Microsoft.NET.Test.Sdk"), Package("NUnit"), Package("NUnit3TestAdapter"),
                    Package("SQLitePCLRaw.lib.e_sqlite3"), Package("coverlet.collector"),
                    new XElement("Reference",
                        new XAttribute("Include", typeof(NativeLeakTracker).Assembly.Location)),
                    new XElement("None",
                        new XAttribute("Include", RepositoryPaths.Shim),
                        new XAttribute("Link", "runtimes/linux-x64/native/libnativeleakshim.so"),
                        new XAttribute("CopyToOutputDirectory", "Always"))),
                new XElement("Import", new XAttribute("Project", Path.Combine(library, "build", "NativeLeakTracker.targets")))))
            .Save(Path.Combine(_project, "Covered.csproj"));

        File.Copy(
            Path.Combine(RepositoryPaths.Root, "Directory.Packages.props"), Path.Combine(_project, "Directory.Packages.props"));

        // MSBuild looks upwards for these; found here, nothing above the folder takes part.
        new XDocument(new XElement("Project")).Save(Path.Combine(_project, "Directory.Build.props"));
        new XDocument(new XElement("Project")).Save(Path.Combine(_project, "Directory.Build.targets"));
    }

    /// <summary>Runs <c>dotnet test</c>: the outcome of each test, what was printed, and the folder of the results.</summary>
    public (Dictionary<string, string> Outcomes, string Output, string Results) Test(params string[] options)
    {
        string results = _folder.File($"results-{_runs++}");
        var (_, output) = DotnetCommand.Run(
            _project, ["test", "--logger", "trx;LogFileName=results.trx", "--results-directory", results, .. options]);
        string trx = Path.Combine(results, "results.trx");
        Assert.That(trx, Does.Exist, output);
        XNamespace ns = "http://microsoft.com/schemas/VisualStudio/TeamTest/2010";
        var outcomes = XDocument.Load(trx).Descendants(ns + "UnitTestResult").ToDictionary(
            static result => result.Attribute("testName")!.Value, static result => result.Attribute("outcome")!.Value);
        return (outcomes, output, results);
    }

    public void Dispose() => _folder.Dispose();

    private static XElement Package(string name) => new("PackageReference", new XAttribute("Include", name));
}
