using System.Globalization;
using NativeLeaks.Symbols;
using NativeLeaks.Symbols.CallSites;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Tests.CallSites;

/// <summary>A return address in a library's own numbering.</summary>
internal sealed record RecordedFrame(NativeSymbols Image, ulong Address);

/// <summary>The stack of an allocation, innermost frame first.</summary>
internal sealed record RecordedStack(string Function, string Allocator, IReadOnlyList<RecordedFrame> Frames);

/// <summary>
/// Real stacks: the program allocation_stacks calls functions of a library, and glibc's own unwinder walks at every allocation.
/// </summary>
internal sealed class AllocationStacks : IDisposable
{
    /// <summary>What may stand at the inner end of a stack, as the shim's table of hooks has it.</summary>
    public static IReadOnlySet<string> Allocators { get; } = new HashSet<string>(
        File.ReadLines(Path.Combine(RepositoryPaths.Root, "src", "NativeShim", "hooks.def"))
            .Where(line => line.Contains("HOOK(", StringComparison.Ordinal) && line.EndsWith(')'))
            .Select(line => line.Split(", ")[2]));

    private readonly Dictionary<string, NativeSymbols> _images = [];

    private AllocationStacks()
    {
    }

    public IReadOnlyList<RecordedStack> Stacks { get; private set; } = [];

    public static AllocationStacks Record(string library, params string[] functions)
    {
        var program = Path.Combine(RepositoryPaths.NativeFixtures, "allocation_stacks");
        var run = ChildProcess.Run(program, [library, .. functions]);
        Assert.That(run.ExitCode, Is.Zero, run.Error);
        var result = new AllocationStacks();
        List<RecordedStack> stacks = [];
        List<RecordedFrame> frames = [];
        foreach (var line in run.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            var parts = line.Trim().Split(' ');
            if (line[0] != ' ')
            {
                frames = [];
                stacks.Add(new RecordedStack(parts[0], parts[1], frames));
                continue;
            }

            var address = ulong.Parse(parts[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            frames.Add(new RecordedFrame(result.Image(parts[0] == "/proc/self/exe" ? program : parts[0]), address));
        }

        result.Stacks = stacks;
        return result;
    }

    /// <summary>Where a function is defined in the program, in the dynamic linker's order.</summary>
    public (ICodeImage Image, ulong Address)? Resolve(string import) =>
        _images.Values
            .Select(image => image.AddressOf(import) is { } address ? ((ICodeImage, ulong)?)(image, address) : null)
            .FirstOrDefault(found => found is not null);

    /// <summary>What is inferred for each frame of a stack.</summary>
    public IReadOnlyList<(CallSite Site, Elision Elision)> Decode(CallDecoder decoder, RecordedStack stack)
    {
        List<(CallSite, Elision)> result = [];
        var callee = CalleeFrame.AnyOf(Allocators);
        foreach (var (image, address) in stack.Frames)
        {
            var site = decoder.Check(image, address);
            result.Add((site, decoder.Elided(site, image, callee, Resolve)));
            callee = CalleeFrame.Function(image, address - 1);
        }

        return result;
    }

    /// <summary>
    /// Functions from the innermost one to the one that the test called, inferred ones marked; "?" for those without a name.
    /// </summary>
    public IReadOnlyList<string> Names(CallDecoder decoder, RecordedStack stack, bool withInferred)
    {
        List<string> names = [];
        var decoded = Decode(decoder, stack);
        for (var index = 0; index < stack.Frames.Count; index++)
        {
            var (image, address) = stack.Frames[index];
            if (withInferred)
            {
                names.AddRange(decoded[index].Elision.Frames.Select(frame => "inferred " + (frame.Function.Name ?? "?")));
            }

            var name = image.FunctionAt(address - 1)?.Name ?? "?";
            names.Add(name);
            if (name == stack.Function)
            {
                break;
            }
        }

        return names;
    }

    public void Dispose()
    {
        foreach (var image in _images.Values)
        {
            image.Dispose();
        }
    }

    private NativeSymbols Image(string path)
    {
        if (!_images.TryGetValue(path, out var image))
        {
            _images[path] = image = NativeSymbols.Open(path, SymbolSettings.None);
        }

        return image;
    }
}
