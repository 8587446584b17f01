using System.IO.Compression;
using System.Xml.Linq;

namespace NativeLeaks.Tests.CallSites;

/// <summary>
/// The package carries Iced, and a user's program may have another version of it: neither sees the other's. And what is carried is
/// no dependency, and is given credit for.
/// </summary>
[TestFixture]
public sealed class OtherIcedTests
{
    private const string Program = """
        using System;
        using System.Diagnostics;
        using System.Linq;
        using System.Runtime.Loader;
        using Iced.Intel;

        delegate string[] Format(ReadOnlySpan<byte> code, ulong address, Func<ulong, string> nameOf);

        static class Program
        {
            static readonly byte[] s_code = { 0xe8, 0x0b, 0x00, 0x00, 0x00, 0xc3 };

            static void Main(string[] arguments)
            {
                // In both orders: whoever comes second must not get the first one's.
                if (arguments[0] == "own first") Own();
                Carried();
                if (arguments[0] != "own first") Own();

                foreach (var iced in AppDomain.CurrentDomain.GetAssemblies().Where(one => one.GetName().Name == "Iced"))
                    Console.WriteLine($"iced {iced.GetName().Version.ToString(3)} {AssemblyLoadContext.GetLoadContext(iced).Name}");
            }

            static void Own()
            {
                Decoder.Create(64, s_code).Decode(out var instruction);
                Console.WriteLine($"own {instruction.Mnemonic} {typeof(Decoder).Assembly.GetName().Version.ToString(3)}");
            }

            static void Carried()
            {
                var disassembler = typeof(NativeLeaks.NativeLeakTracker).Assembly.GetType("NativeLeaks.Symbols.CallSites.Disassembler", true);
                Console.WriteLine($"loaded {disassembler.GetProperty("IsLoaded").GetValue(null)}");
                var format = disassembler.GetMethod("Format").CreateDelegate<Format>();
                var watch = Stopwatch.StartNew();
                var text = format(s_code, 0x1000, address => address == 0x1010 ? "callee" : null);
                Console.WriteLine($"carried {string.Join(" ", text)}");
                Console.WriteLine($"loaded {disassembler.GetProperty("IsLoaded").GetValue(null)}");
                Console.WriteLine($"first use took {watch.Elapsed.TotalMilliseconds} ms");
            }
        }
        """;

    private readonly TemporaryFolder _folder = new();
    private string _package = "";
    private string _project = "";

    [OneTimeSetUp]
    public void Pack_and_build_a_program_with_another_Iced()
    {
        // A version of its own: NuGet never looks twice at a version that it has seen.
        var version = $"0.0.0-test.{DateTime.UtcNow.Ticks}";
        var (packed, output) = DotnetCommand.Run(
            RepositoryPaths.Root,
            "pack", "src/NativeLeakTracker/NativeLeakTracker.csproj", "--configuration", "Release", "--no-restore",
            "--output", _folder.File("packages"), $"-p:PackageVersion={version}", $"-p:NuspecOutputPath={_folder.File("nuspec")}");
        Assert.That(packed, Is.Zero, output);
        _package = Path.Combine(_folder.File("packages"), $"NativeLeakTracker.{version}.nupkg");

        _project = Directory.CreateDirectory(_folder.File("project")).FullName;
        WriteProject(version);
        var (built, messages) = DotnetCommand.Run(_project, "build", "--configuration", "Release");
        Assert.That(built, Is.Zero, messages);
        Assert.That(messages, Does.Not.Contain("MSB3277").And.Not.Contain("NU1605").And.Not.Contain("NU1608"), "a conflict of versions");
    }

    [OneTimeTearDown]
    public void Remove_the_program() => _folder.Dispose();

    [TestCase("own first")]
    [TestCase("carried first")]
    public void Program_uses_its_Iced_and_the_library_the_one_that_it_carries(string order)
    {
        var run = ChildProcess.Run(
            ChildProcess.DotnetHost, [Path.Combine(_project, "bin", "Release", "net10.0", "WithIced.dll"), order]);
        var lines = run.Output.Split('\n');

        TestContext.Out.WriteLine(run.Output);
        Assert.That(run.ExitCode, Is.Zero, run.Error);
        Assert.That(lines, Has.Some.EqualTo($"own Call {OtherVersion}"));
        Assert.That(lines, Has.Some.EqualTo("carried call callee ret"));
        Assert.That(lines, Has.Some.EqualTo($"iced {OtherVersion} Default"));
        Assert.That(lines, Has.Some.EqualTo($"iced {CarriedVersion} NativeLeakTracker.Disassembly"));
        Assert.That(
            lines.Where(line => line.StartsWith("loaded", StringComparison.Ordinal)), Is.EqualTo(["loaded False", "loaded True"]));
    }

    [Test]
    public void Package_depends_on_no_other()
    {
        using var package = ZipFile.OpenRead(_package);
        using var nuspec = package.Entries.Single(entry => entry.FullName.EndsWith(".nuspec", StringComparison.Ordinal)).Open();

        Assert.That(XDocument.Load(nuspec).Descendants().Where(element => element.Name.LocalName == "dependency"), Is.Empty);
        Assert.That(
            package.Entries.Select(entry => entry.Name).Where(name => name.EndsWith(".dll", StringComparison.Ordinal)),
            Is.EqualTo(["NativeLeakTracker.dll"]));
    }

    [Test]
    public void Package_gives_credit_to_what_it_carries()
    {
        using var package = ZipFile.OpenRead(_package);
        using var notices = new StreamReader(package.GetEntry("THIRD-PARTY-NOTICES.txt")!.Open());

        var text = notices.ReadToEnd();

        Assert.That(text, Does.Contain($"Iced {CarriedVersion}").And.Contain("Permission is hereby granted, free of charge"));
        Assert.That(text, Does.Contain("Copyright (C) 2018-present iced project and contributors"));
    }

    private static string CarriedVersion => Versions.Descendants("PackageVersion")
        .Single(version => version.Attribute("Include")!.Value == "Iced").Attribute("Version")!.Value.Trim('[', ']');

    private static string OtherVersion => Versions.Descendants("OtherIcedVersion").Single().Value.Trim('[', ']');

    private static XDocument Versions => XDocument.Load(Path.Combine(RepositoryPaths.Root, "Directory.Packages.props"));

    private void WriteProject(string version)
    {
        File.WriteAllText(Path.Combine(_project, "Program.cs"), Program);
        new XDocument(
            new XElement("Project",
                new XAttribute("Sdk", "Microsoft.NET.Sdk"),
                new XElement("PropertyGroup",
                    new XElement("TargetFramework", "net10.0"),
                    new XElement("OutputType", "Exe")),
                new XElement("ItemGroup", Package("Iced", $"[{OtherVersion}]"), Package("NativeLeakTracker", $"[{version}]"))))
            .Save(Path.Combine(_project, "WithIced.csproj"));

        // MSBuild looks upwards for these; found here, nothing above the folder takes part.
        foreach (var file in (string[])["Directory.Build.props", "Directory.Build.targets", "Directory.Packages.props"])
        {
            new XDocument(new XElement("Project")).Save(Path.Combine(_project, file));
        }

        // Adds to the user's sources. Packages that the repository's restore brought are used where they lie.
        new XDocument(
            new XElement("configuration",
                new XElement("packageSources", Setting("packages-under-test", _folder.File("packages"))),
                new XElement("fallbackPackageFolders", Setting("repository", RepositoryPaths.RestoredPackages)),
                new XElement("config", Setting("globalPackagesFolder", _folder.File("restored")))))
            .Save(Path.Combine(_project, "NuGet.config"));

        static XElement Package(string name, string version) =>
            new("PackageReference", new XAttribute("Include", name), new XAttribute("Version", version));

        static XElement Setting(string key, string value) =>
            new("add", new XAttribute("key", key), new XAttribute("value", value));
    }
}
