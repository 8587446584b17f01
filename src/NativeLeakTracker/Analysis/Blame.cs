using NativeLeaks.Symbols;

namespace NativeLeaks.Analysis;

/// <summary>Who a stack points to: the words of the verdict contract (docs/verdicts.md).</summary>
internal static class Blame
{
    /// <summary>
    /// The runtime's own: the innermost frame outside the C runtime lies in the .NET runtime or its host, or the dynamic
    /// linker or a C runtime that it started made the block for itself.
    /// </summary>
    public static bool IsRuntimeBlock(IReadOnlyList<FrameOutline> stack)
    {
        if (stack.Count > 0 && stack[0].IsDynamicLinker)
        {
            return true;
        }

        foreach (FrameOutline frame in stack)
        {
            if (frame.IsManaged || frame.Role != ModuleRole.CRuntime)
            {
                return !frame.IsManaged && frame.Role == ModuleRole.DotnetRuntime;
            }
        }

        // Nobody but C runtimes, up to the dynamic linker that started them: what they set up for themselves, such as
        // libstdc++'s reserve for exceptions. A stack that merely ends early proves nothing.
        return stack.Count > 0 && stack[^1].IsDynamicLinker;
    }

    /// <summary>
    /// The innermost frame outside the C runtime lies in a native library that the framework uses for itself: no block that the program
    /// asked for by size, and was handed over.
    /// </summary>
    public static bool IsFrameworkLibrarysBlock(IReadOnlyList<FrameOutline> stack)
    {
        foreach (FrameOutline frame in stack)
        {
            if (frame.IsManaged || frame.Role != ModuleRole.CRuntime)
            {
                return frame.IsFrameworkLibrary;
            }
        }

        return false;
    }

    public static bool HasManagedFrame(IReadOnlyList<FrameOutline> stack) => stack.Any(static f => f.IsManaged);

    /// <summary>The module whose code called the allocation function. What only passes malloc on does not count, and is seldom on the stack.</summary>
    public static string? Allocator(IReadOnlyList<ResolvedFrame> stack) =>
        (First(stack, static f => f.Role != ModuleRole.CRuntime && !IsStub(f) && !PassesMallocOn(f)) ?? FirstOrNull(stack))?.Frame.Module;

    /// <summary>
    /// The first managed frame, going outwards, whose assembly is not part of the framework; without one, the first module
    /// that is neither a C runtime nor the .NET runtime.
    /// </summary>
    public static string? Owner(IReadOnlyList<ResolvedFrame> stack) =>
        (First(stack, IsOwner) ??
         First(stack, static f => f.Role is ModuleRole.Other or ModuleRole.Framework && f.Frame.Kind == LeakFrameKind.Native))
        ?.Frame.Module;

    // pal_memory.c of the runtime.
    private static bool PassesMallocOn(ResolvedFrame frame) =>
        frame.Frame is { Kind: LeakFrameKind.Native, Method: { } method } &&
        method is "SystemNative_Malloc" or "SystemNative_Calloc" or "SystemNative_Realloc" or "SystemNative_AlignedAlloc" or "SystemNative_AlignedRealloc";

    private static bool IsStub(ResolvedFrame frame) => frame.Frame is { Kind: LeakFrameKind.Runtime, Module: null };

    /// <summary>Somebody's own managed code.</summary>
    public static bool IsOwner(ResolvedFrame frame) =>
        frame is { Frame.Kind: LeakFrameKind.Managed, Role: ModuleRole.Other };

    /// <summary>The innermost frame of a kind; null when there is none.</summary>
    public static ResolvedFrame? First(IReadOnlyList<ResolvedFrame> stack, Func<ResolvedFrame, bool> condition)
    {
        foreach (ResolvedFrame frame in stack)
        {
            if (condition(frame))
            {
                return frame;
            }
        }

        return null;
    }

    private static ResolvedFrame? FirstOrNull(IReadOnlyList<ResolvedFrame> stack) => stack.Count > 0 ? stack[0] : null;
}
