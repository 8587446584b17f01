using NativeLeaks.Symbols;

namespace NativeLeaks.Analysis;

/// <summary>
/// Whether blocks that were made outside of every scope are blamed on the one that is reported: those of threads to which no
/// flow runs are (native threads, callbacks on them, suppressed flow), those of other flows are not.
/// </summary>
internal sealed class Attribution(ContextResolver resolver, BlockFilter filter)
{
    /// <summary>Null: the blocks are the scope's.</summary>
    public Exclusion? Exclude(uint context, Belonging belonging) => belonging switch
    {
        Belonging.Scope => null,
        Belonging.Ignored => new Exclusion("ignored"),
        Belonging.Outside when IsScopes(context) => null,
        _ => new Exclusion("otherScope"),
    };

    private bool IsScopes(uint context)
    {
        if (!Blame.HasManagedFrame(resolver.Outline(context)))
        {
            return true;
        }

        IReadOnlyList<ResolvedFrame> stack = resolver.Resolve(context);
        return filter.IsFlowLost ? !TestPlatform.Owns(Blame.Owner(stack)) : IsFlowless(stack);
    }

    /// <summary>
    /// A thread that was started, or a work item, has its creator's flow restored by ExecutionContext.Run...; where that is not on the
    /// stack, the flow was suppressed. What began in a program's Main, or in a test runner's own thread, is a flow too.
    /// </summary>
    private static bool IsFlowless(IReadOnlyList<ResolvedFrame> stack)
    {
        int outermost = -1;
        for (int i = 0; i < stack.Count; i++)
        {
            LeakFrame frame = stack[i].Frame;
            if (frame.Kind != LeakFrameKind.Managed)
            {
                continue;
            }

            outermost = i;
            if (TestPlatform.Owns(frame.Module) ||
                frame.Method?.StartsWith("System.Threading.ExecutionContext.Run", StringComparison.Ordinal) == true)
            {
                return false;
            }
        }

        return stack[outermost].Role == ModuleRole.Framework || IsCalledByLibrary(stack, outermost);
    }

    /// <summary>A callback on a thread that a native library made: the library's own code stands outside of it.</summary>
    private static bool IsCalledByLibrary(IReadOnlyList<ResolvedFrame> stack, int outermost)
    {
        for (int i = outermost + 1; i < stack.Count; i++)
        {
            if (stack[i] is { Frame.Kind: LeakFrameKind.Native, Role: ModuleRole.Other })
            {
                return true;
            }
        }

        return false;
    }
}
