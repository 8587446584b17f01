using NativeLeaks.Symbols.CallSites;
using NativeLeaks.Symbols.Managed;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Symbols;

/// <summary>What was put back inside a frame.</summary>
/// <param name="Frames">Innermost first.</param>
/// <param name="EntryPoint">The native function that the frame's own method stands for, where that is a generated P/Invoke.</param>
/// <param name="IsDoubtful">No call ends where the frame returns to, so it may be no frame.</param>
internal sealed record Elided(IReadOnlyList<ResolvedFrame> Frames, string? EntryPoint, bool IsDoubtful = false)
{
    public static Elided Nothing { get; } = new([], null);
}

/// <summary>
/// The frames that are not on the stack although their functions ran: inlined, left by a jump, or a P/Invoke's declaration.
/// They are put back where the code leaves no other way, and marked as inferred. One caller at a time.
/// </summary>
internal sealed class ElidedFrames(AssemblyFiles files, NativeFrames libraries, SymbolSettings settings, bool isThisProcess)
{
    // What a record's innermost frame called: the hooked functions (src/NativeShim/hooks.def) and what ends in them at once.
    private static readonly HashSet<string> s_allocators =
    [
        "malloc", "calloc", "realloc", "reallocarray", "posix_memalign", "aligned_alloc", "memalign", "valloc", "pvalloc",
    ];

    // The import that [LibraryImport] generates inside the method that it is asked for, which has a frame.
    private const string GeneratedImport = "g____PInvoke|";

    private readonly CallDecoder _calls = new();
    private readonly ElidedMethods _methods = new(new MethodReferences(files.Named));

    /// <summary>Between a frame and those inside it; innermost first.</summary>
    /// <param name="outer">The frame.</param>
    /// <param name="inner">The next inner frame that is no stub; null: the allocation function itself was called.</param>
    /// <param name="byStub">Whether a stub that stands for a P/Invoke lies between the two.</param>
    public Elided Between(PhysicalFrame outer, PhysicalFrame? inner, bool byStub)
    {
        if (outer is { IsCall: true, Native: { } native, Outermost.Role: ModuleRole.Other })
        {
            return LeftByJump(native, outer.Outermost.Frame, inner);
        }

        // The framework's own insides are nobody's concern, and reading their IL takes time.
        if (!outer.IsCall || outer.Managed is not { IsStub: false, Role: ModuleRole.Other } caller || KeyOf(caller) is not { } key)
        {
            return Elided.Nothing;
        }

        if (inner?.Managed is { } callee && !byStub)
        {
            return KeyOf(callee) is { } calleeKey ? Show(_methods.Between(key, caller.Il, calleeKey)) : Elided.Nothing;
        }

        // The runtime called on behalf of managed code: no P/Invoke led there.
        return inner is { Outermost.Role: ModuleRole.DotnetRuntime } && !byStub
            ? Elided.Nothing
            : WithEntry(_methods.BeforeNative(key, caller.Il, inner?.Native?.Function?.Name), inner);
    }

    /// <summary>The functions that a native call went through by jumps; and whether there is a call at all.</summary>
    private Elided LeftByJump(NativePlace outer, LeakFrame frame, PhysicalFrame? inner)
    {
        CallSite site = _calls.Check(outer.Symbols, outer.ReturnAddress);
        List<ResolvedFrame> frames = CalleeOf(inner) is { } callee
            ? Show(_calls.Elided(site, outer.Symbols, callee, name => libraries.Definition(name, library: null)), frame.Kind)
            : [];
        return new Elided(frames, null, site.Evidence == CallEvidence.None);
    }

    /// <summary>What is inside a P/Invoke, if the function that it names was left by a jump: that function stands on no stack.</summary>
    private Elided WithEntry(IReadOnlyList<ElidedMethod> methods, PhysicalFrame? inner)
    {
        Elided elided = Show(methods);
        if (methods.Count == 0 || !methods[0].Method.IsImport || CalleeOf(inner) is not { } callee)
        {
            return elided;
        }

        (string entryPoint, string library) = methods[0].Method.Import;
        if (s_allocators.Contains(entryPoint) || libraries.Definition(entryPoint, library) is not var (image, address))
        {
            return elided;
        }

        var site = new CallSite(0, CallEvidence.Certain, 0, address, null);
        List<ResolvedFrame> native = Show(
            _calls.Elided(site, image, callee, name => libraries.Definition(name, library: null)), LeakFrameKind.Native);
        return elided with { Frames = [.. native, .. elided.Frames] };
    }

    private static CalleeFrame? CalleeOf(PhysicalFrame? inner) => inner switch
    {
        null => CalleeFrame.AnyOf(s_allocators),
        { Native: { Function: not null } native } => CalleeFrame.Function(native.Symbols, native.ReturnAddress - 1),
        _ => null,
    };

    private static List<ResolvedFrame> Show(Elision elision, LeakFrameKind kind)
    {
        List<ResolvedFrame> frames = [];
        foreach (ElidedFrame elided in elision.Frames)
        {
            string path = ((NativeSymbols)elided.Image).Path;
            string? name = elided.Function.Name is { } symbol ? Demangler.Demangle(symbol) : null;
            var frame = new LeakFrame(kind, name, Path.GetFileName(path))
            {
                Symbol = name == elided.Function.Name ? null : elided.Function.Name,
                Offset = name is null ? (long)elided.Function.Start : null,
                Inferred = true,
            };
            frames.Add(new ResolvedFrame(frame, ModuleRoles.OfNative(path)));
        }

        return frames;
    }

    private MethodKey? KeyOf(ManagedFrame frame) =>
        frame.Token != 0 && files.OfImage(frame.Image) is { } file ? new MethodKey(file, frame.Token & 0xffffff) : null;

    private Elided Show(IReadOnlyList<ElidedMethod> methods)
    {
        List<ResolvedFrame> frames = [];
        string? entryPoint = null;
        foreach (ElidedMethod elided in methods)
        {
            MethodKey method = elided.Method;
            if (method.IsImport && method.Name.Contains(GeneratedImport, StringComparison.Ordinal))
            {
                entryPoint = method.Import.EntryPoint;
                continue;
            }

            if (MetadataNames.Describe(method.Assembly.Metadata!, method.Token) is not { } name)
            {
                return Elided.Nothing;
            }

            SourceLine? line = method.Assembly.Lines(settings).Find(method.Token, elided.IlOffset);
            string? path = method.Assembly.Path;
            var frame = new LeakFrame(LeakFrameKind.Managed, name.Text, path is null ? null : Path.GetFileName(path))
            {
                Symbol = name.Symbol,
                File = line is { } place ? settings.Map(place.File) : null,
                Line = line?.Line,
                Link = line?.Link,
                Inferred = true,
            };
            ModuleRole role = ModuleRoles.OfAssemblyFile(path);
            frames.Add(new ResolvedFrame(frame, role, EntryPoint: method.IsImport ? method.Import.EntryPoint : null)
            {
                WorksForDisposable = isThisProcess && role == ModuleRole.Framework && DisposableWork.IsDoneBy(method),
            });
        }

        return new Elided(frames, entryPoint);
    }
}
