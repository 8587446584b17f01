using System.Globalization;
using NativeLeaks.Symbols;
using NativeLeaks.Symbols.CallSites;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Tests.CallSites;

/// <summary>Return addresses are told from other addresses, and calls are read as another disassembler, binutils' objdump, reads them.</summary>
[TestFixture]
public sealed class CallSiteTests
{
    public static IEnumerable<string> Libraries =>
        ((string[])
        [
            "/usr/lib/x86_64-linux-gnu/libsqlite3.so.0", "/lib/x86_64-linux-gnu/libc.so.6",
            Path.Combine(RepositoryPaths.NativeFixtures, "libtail_calls_checked.so"),
            Path.Combine(RepositoryPaths.NativeFixtures, "libtail_calls_no_plt.so"),
        ]).Where(File.Exists);

    [TestCaseSource(nameof(Libraries))]
    public void Every_call_of_a_library_is_found_and_nothing_else(string library)
    {
        var (calls, addresses) = Disassembled(library);
        using var image = NativeSymbols.Open(library, SymbolSettings.None);
        var decoder = new CallDecoder();
        List<string> wrong = [];

        var evidence = new int[4];
        foreach (var (returnAddress, target) in calls)
        {
            var site = decoder.Check(image, returnAddress);
            evidence[(int)site.Evidence]++;
            if (!site.IsCall || site.IsIndirect != (target is null && site.Import is null) ||
                (site.Target is { } found && found != target))
            {
                wrong.Add($"{returnAddress:x}: {site}, to {target:x}");
            }
        }

        TestContext.Out.WriteLine($"{calls.Count} calls: {evidence[3]} certain, {evidence[2]} likely");
        Assert.That(calls, Is.Not.Empty);
        Assert.That(wrong, Is.Empty);

        // Between instructions and within them.
        var random = new Random(20_260_301);
        var (first, last) = (addresses.Min(), addresses.Max());
        var tried = 0;
        var likely = 0;
        for (var round = 0; round < 20_000; round++)
        {
            var address = first + (ulong)random.NextInt64((long)(last - first));
            if (calls.ContainsKey(address))
            {
                continue;
            }

            tried++;
            var site = decoder.Check(image, address);
            likely += site.Evidence == CallEvidence.Likely ? 1 : 0;
            if (site.Evidence == CallEvidence.Certain)
            {
                wrong.Add($"{address:x}: {site}");
            }
        }

        TestContext.Out.WriteLine($"{tried} other addresses: {likely} likely, {wrong.Count} certain");
        Assert.That(wrong, Is.Empty);
        Assert.That(likely, Is.LessThan(tried / 100));
    }

    [Test]
    public void Call_of_an_import_has_its_name()
    {
        foreach (var library in (string[])["libtail_calls.so", "libtail_calls_no_plt.so", "libtail_calls_checked.so"])
        {
            using var image = NativeSymbols.Open(Path.Combine(RepositoryPaths.NativeFixtures, library), SymbolSettings.None);
            var function = image.FunctionAt(image.AddressOf("plain_links")!.Value)!.Value;
            var decoder = new CallDecoder();

            var sites = Enumerable.Range(1, (int)function.Size)
                .Select(offset => decoder.Check(image, function.Start + (ulong)offset))
                .Where(site => site.IsCall)
                .ToList();

            Assert.That(sites.Select(site => site.Import), Is.EqualTo(["malloc"]), library);
        }
    }

    [TestCase(0UL)]
    [TestCase(1UL)]
    [TestCase(4UL)]
    [TestCase(0x7fff_ffff_ffffUL)]
    [TestCase(ulong.MaxValue)]
    public void Address_without_code_proves_nothing(ulong address)
    {
        using var image = NativeSymbols.Open(Path.Combine(RepositoryPaths.NativeFixtures, "libtail_calls.so"), SymbolSettings.None);
        using var nothing = NativeSymbols.Open("/nonexistent", SymbolSettings.None);
        var decoder = new CallDecoder();

        Assert.That(decoder.Check(image, address).IsCall, Is.False);
        Assert.That(decoder.Check(nothing, address).Evidence, Is.EqualTo(CallEvidence.Unknown));
        Assert.That(decoder.Explain(image, address, isReturnAddress: true, 3, 3), Is.Null);
        Assert.That(decoder.Explain(nothing, address, isReturnAddress: false, 3, 3), Is.Null);
    }

    [Test]
    public void Code_of_no_meaning_does_no_harm()
    {
        var random = new Random(20_260_302);
        for (var round = 0; round < 300; round++)
        {
            var image = new RandomCode(random);
            var decoder = new CallDecoder();
            for (ulong address = 0; address < 600; address++)
            {
                var site = decoder.Check(image, address);
                var elision = decoder.Elided(
                    site, image, CalleeFrame.Function(image, (ulong)random.Next(600)), _ => (image, (ulong)random.Next(600)));

                Assert.That(elision.Frames, elision.Status == ElisionStatus.Found ? Is.Not.Empty : Is.Empty);
                Assert.That(elision.Frames, Has.Count.LessThanOrEqualTo(400));
                _ = decoder.Explain(image, address, isReturnAddress: round % 2 == 0, round, 600 - round);
            }
        }
    }

    // A frame is asked for in every report; what it costs must not depend on how often.
    [Test]
    public void Functions_are_decoded_once()
    {
        using var file = NativeSymbols.Open(Path.Combine(RepositoryPaths.NativeFixtures, "libtail_calls_kept.so"), SymbolSettings.None);
        var image = new Counted(file);
        var decoder = new CallDecoder();
        var function = file.FunctionAt(file.AddressOf("called_pointer_links")!.Value)!.Value;

        Check();
        var once = image.LargeReads;
        Check();

        Assert.That(once, Is.EqualTo(1));
        Assert.That(image.LargeReads, Is.EqualTo(once));

        void Check()
        {
            for (ulong offset = 1; offset < function.Size; offset++)
            {
                decoder.Check(image, function.Start + offset);
            }
        }
    }

    /// <summary>Return addresses with the targets of direct calls, and all addresses of instructions, by objdump.</summary>
    private static (Dictionary<ulong, ulong?> Calls, List<ulong> Addresses) Disassembled(string library)
    {
        var run = ChildProcess.Run("objdump", ["-d", "-j", ".text", "--no-show-raw-insn", "-w", library]);
        Assert.That(run.ExitCode, Is.Zero, run.Error);
        Dictionary<ulong, ulong?> calls = [];
        List<ulong> addresses = [];
        string? call = null;
        foreach (var line in run.Output.Split('\n'))
        {
            var colon = line.IndexOf(":\t", StringComparison.Ordinal);
            if (colon < 0 || !ulong.TryParse(line.AsSpan(0, colon), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out var address))
            {
                continue;
            }

            if (call is not null)
            {
                calls[address] = TargetOf(call);
            }

            addresses.Add(address);
            var words = line[(colon + 2)..].Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries);
            var isCall = words.Contains("call") && !words.Contains("(bad)");
            call = isCall ? words[Array.IndexOf(words, "call") + 1] : null;
        }

        return (calls, addresses);

        static ulong? TargetOf(string operand) =>
            ulong.TryParse(operand, NumberStyles.HexNumber, CultureInfo.InvariantCulture, out var target) ? target : null;
    }

    /// <summary>Random bytes with many calls and jumps in them, in functions of random extents.</summary>
    private sealed class RandomCode : ICodeImage
    {
        private readonly byte[] _code = new byte[512];
        private readonly int _function;

        public RandomCode(Random random)
        {
            random.NextBytes(_code);
            byte[] openings = [0xe8, 0xe9, 0xeb, 0x74, 0xff, 0xc3, 0x0f];
            for (var count = 0; count < 60; count++)
            {
                var at = random.Next(_code.Length - 5);
                _code[at] = openings[random.Next(openings.Length)];
                BitConverter.TryWriteBytes(_code.AsSpan(at + 1), random.Next(-300, 300));
            }

            _function = random.Next(1, 100);
        }

        public ReadOnlySpan<byte> CodeAt(ulong address, int maxBytes) =>
            address >= (ulong)_code.Length ? [] : _code.AsSpan((int)address, Math.Min(maxBytes, _code.Length - (int)address));

        public FunctionExtent? FunctionAt(ulong address)
        {
            var start = address - (address % (ulong)_function);
            return address > 550 ? null : new FunctionExtent(start % 3 == 0 ? null : $"f{start}.part.{start % 2}", start, (ulong)_function);
        }

        public ulong? AddressOf(string name) => (ulong)(name.Length * 7);

        public string? ImportAt(ulong slot) => slot % 3 == 0 ? "import" : null;
    }

    private sealed class Counted(ICodeImage image) : ICodeImage
    {
        public int LargeReads { get; private set; }

        public ReadOnlySpan<byte> CodeAt(ulong address, int maxBytes)
        {
            LargeReads += maxBytes > 15 ? 1 : 0;
            return image.CodeAt(address, maxBytes);
        }

        public FunctionExtent? FunctionAt(ulong address) => image.FunctionAt(address);

        public ulong? AddressOf(string name) => image.AddressOf(name);

        public string? ImportAt(ulong slot) => image.ImportAt(slot);
    }
}
