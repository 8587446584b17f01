using NativeLeaks.Symbols.Managed;

namespace NativeLeaks.Symbols;

/// <summary>What was put back inside a frame.</summary>
/// <param name="Frames">Innermost first.</param>
/// <param name="EntryPoint">The native function that the frame's own method stands for, where that is a generated P/Invoke.</param>
internal sealed record Elided(IReadOnlyList<ResolvedFrame> Frames, string? EntryPoint)
{
    public static Elided Nothing { get; } = new([], null);
}

/// <summary>
/// The frames that are not on the stack although their functions ran: inlined, left by a jump, or a P/Invoke's declaration.
/// They are put back where the code leaves no other way, and marked as inferred. One caller at a time.
/// </summary>
internal sealed class ElidedFrames(AssemblyFiles files, SymbolSettings settings)
{
    // The import that [LibraryImport] generates inside the method that it is asked for, which has a frame.
    private const string GeneratedImport = "g____PInvoke|";

    private readonly ElidedMethods _methods = new(new MethodReferences(files.Named));

    /// <summary>Between a frame and those inside it; innermost first.</summary>
    /// <param name="outer">The frame.</param>
    /// <param name="inner">The next inner frame that is no stub; null: the allocation function itself was called.</param>
    /// <param name="byStub">Whether a stub that stands for a P/Invoke lies between the two.</param>
    public Elided Between(PhysicalFrame outer, PhysicalFrame? inner, bool byStub)
    {
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
            : Show(_methods.BeforeNative(key, caller.Il, inner?.Native?.Function?.Name));
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
            frames.Add(new ResolvedFrame(
                frame, ModuleRoles.OfAssemblyFile(path), EntryPoint: method.IsImport ? method.Import.EntryPoint : null));
        }

        return new Elided(frames, entryPoint);
    }
}
