using NativeLeaks.Symbols;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Tests.Native;

/// <summary>Symbols of stripped libraries, from the files that they were moved to and from no others.</summary>
[TestFixture]
public sealed class DebugFileTests
{
    [TestCase("symbols_c")]
    [TestCase("symbols_cxx")]
    public void Library_with_a_debug_link_is_named_like_before_it_was_stripped(string name)
    {
        using var folder = new TemporaryFolder();
        var original = SymbolLibraries.PathOf("dwarf4", name);
        var stripped = StrippedWithLink(original, folder, "lib", "lib");

        NativeSymbolsTests.AssertSameAsAddr2line(stripped, original, SymbolSettings.None);
    }

    [TestCase("symbols_c")]
    [TestCase("symbols_cxx")]
    public void Library_whose_build_has_symbols_in_a_search_folder_is_named_like_before_it_was_stripped(string name)
    {
        using var folder = new TemporaryFolder();
        var original = SymbolLibraries.PathOf("plain", name);
        var stripped = SymbolLibraries.Split(
            original, folder.File("lib"), SymbolLibraries.BuildIdFile(folder.File("store"), original), "--strip-all");

        NativeSymbolsTests.AssertSameAsAddr2line(
            stripped, original, new SymbolSettings { SearchFolders = [folder.File("elsewhere"), folder.File("store")] });
    }

    [TestCase("lib", "lib")]
    [TestCase("lib", "lib/.debug")]
    [TestCase("lib", "store")]
    public void Debug_link_is_looked_for_beside_the_library_and_in_search_folders(string libraryFolder, string debugFolder)
    {
        using var folder = new TemporaryFolder();
        var stripped = StrippedWithLink(SymbolLibraries.PathOf("plain", "symbols_c"), folder, libraryFolder, debugFolder);

        // A library is mostly found through a link from its short name.
        var link = folder.File("liblink.so");
        File.CreateSymbolicLink(link, stripped);
        using var symbols = NativeSymbols.Open(link, new SymbolSettings { SearchFolders = [folder.File("store")] });

        Assert.That(symbols.Find(symbols.AddressOf("counters_walk")!.Value)[^1].File, Does.EndWith("counters.c"));
        Assert.That(symbols.IsStripped, Is.False);
        Assert.That(symbols.Problems, Is.Empty);
    }

    [Test]
    public void Debug_file_of_another_build_is_refused()
    {
        using var folder = new TemporaryFolder();
        var stripped = StrippedWithLink(SymbolLibraries.PathOf("plain", "symbols_c"), folder, "lib", "lib");
        var debugFile = folder.File("lib/debug-of-it");
        File.Copy(SymbolLibraries.PathOf("dwarf4", "symbols_c"), debugFile, overwrite: true);

        using var symbols = NativeSymbols.Open(stripped, SymbolSettings.None);

        Assert.That(symbols.Find(symbols.AddressOf("counters_walk")!.Value)[0].File, Is.Null);
        Assert.That(symbols.IsStripped, Is.True);
        Assert.That(symbols.Problems, Has.Some.Contains("another build"));
    }

    [TestCase(false)]
    [TestCase(true)]
    public void Without_build_ids_the_checksum_decides(bool isDamaged)
    {
        using var folder = new TemporaryFolder();
        Directory.CreateDirectory(folder.File("lib"));
        var withoutId = folder.File("libwithout.so");
        SymbolLibraries.Objcopy("--remove-section=.note.gnu.build-id", SymbolLibraries.PathOf("plain", "symbols_c"), withoutId);
        var stripped = StrippedWithLink(withoutId, folder, "lib", "lib");
        if (isDamaged)
        {
            var bytes = File.ReadAllBytes(folder.File("lib/debug-of-it"));
            bytes[^1] ^= 1;
            File.WriteAllBytes(folder.File("lib/debug-of-it"), bytes);
        }

        using var symbols = NativeSymbols.Open(stripped, SymbolSettings.None);

        Assert.That(symbols.BuildId, Is.Null);
        Assert.That(symbols.IsStripped, Is.EqualTo(isDamaged));
    }

    [Test]
    public void Checksum_is_that_of_the_debug_link()
    {
        Assert.That(Crc32.Append(0, "123456789"u8), Is.EqualTo(0xcbf43926));
        Assert.That(Crc32.Append(Crc32.Append(0, "1234567"u8), "89"u8), Is.EqualTo(0xcbf43926));
    }

    [TestCase("symbols_c")]
    [TestCase("symbols_cxx")]
    public void Bare_library_has_the_names_of_exported_functions_within_their_size_and_no_others(string name)
    {
        using var folder = new TemporaryFolder();
        var bare = folder.File("libbare.so");
        SymbolLibraries.Objcopy("--strip-all", SymbolLibraries.PathOf("plain", name), bare);
        using var symbols = NativeSymbols.Open(bare, SymbolSettings.None);
        var exported = Nm.Functions(bare, "-D");
        int named = 0, unnamed = 0;
        foreach (var address in SymbolLibraries.TextAddresses(bare))
        {
            var names = exported.Where(function => function.Contains(address)).Select(function => function.Name).ToList();
            var found = symbols.Find(address);
            if (names.Count == 0)
            {
                Assert.That(found, Is.Empty);
                unnamed++;
            }
            else
            {
                Assert.That(found, Has.Count.EqualTo(1));
                Assert.That(names, Does.Contain(found[0].Function));
                Assert.That(found[0], Is.EqualTo(new SourceFrame(found[0].Function, null, 0, false)));
                named++;
            }
        }

        Assert.That(named, Is.GreaterThan(500));
        Assert.That(unnamed, Is.GreaterThan(200));
        Assert.That(symbols.IsStripped, Is.True);
        Assert.That(symbols.Advice, Does.StartWith($"stripped; build-id {symbols.BuildId}; symbols: "));
    }

    [Test]
    public void Advice_names_the_package_that_the_distribution_lists()
    {
        using var folder = new TemporaryFolder();
        Directory.CreateDirectory(folder.File("info"));
        File.WriteAllText(folder.File("info/libthing4:amd64.list"), "/.\n/usr/lib/x86_64-linux-gnu/libthing.so.4.2\n");
        File.WriteAllText(folder.File("info/libother1.list"), "/usr/lib/x86_64-linux-gnu/libthing.so.4.2.more\n/lib/libodd.so\n");
        File.WriteAllText(folder.File("debian"), "PRETTY_NAME=\"x\"\nID=ubuntu\nID_LIKE=debian\n");
        File.WriteAllText(folder.File("fedora"), "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n");
        var debian = new InstallAdvice(folder.File("debian"), folder.File("info"));
        var fedora = new InstallAdvice(folder.File("fedora"), folder.File("nothing"));

        Assert.That(
            debian.For("/usr/lib/x86_64-linux-gnu/libthing.so.4.2", "1234"),
            Is.EqualTo("stripped; build-id 1234; symbols: apt-get install libthing4-dbgsym"));
        Assert.That(debian.For("/usr/lib/libodd.so", "1234"), Does.EndWith("apt-get install libother1-dbgsym"));
        Assert.That(debian.For("/usr/lib/libnobodys.so", "1234"), Does.EndWith("DEBUGINFOD_URLS"));
        Assert.That(debian.For("/usr/lib/libnobodys.so", null), Is.EqualTo("stripped; no build-id; symbols: build it with -g and without strip"));
        Assert.That(
            fedora.For("/usr/lib64/libthing.so.4", "1234"),
            Does.EndWith("symbols: dnf debuginfo-install $(rpm -qf /usr/lib64/libthing.so.4)"));
    }

    [Test]
    public void Advice_for_a_library_of_this_system_is_what_its_package_manager_says()
    {
        var library = "/usr/lib/x86_64-linux-gnu/libz.so.1";
        if (!File.Exists("/usr/bin/dpkg-query") || !File.Exists(library))
        {
            Assert.Ignore("not a Debian system with zlib1g");
        }

        Assert.That(new InstallAdvice().For(library, "1234"), Does.EndWith("apt-get install zlib1g-dbgsym"));
    }

    private static string StrippedWithLink(string library, TemporaryFolder folder, string libraryFolder, string debugFolder)
    {
        var debugFile = folder.File(debugFolder + "/debug-of-it");
        return SymbolLibraries.Split(
            library, folder.File(libraryFolder), debugFile, "--strip-all", $"--add-gnu-debuglink={debugFile}");
    }
}
