using NativeLeaks.Ledger;
using NativeLeaks.Symbols;

namespace NativeLeaks.Analysis;

/// <summary>
/// Blocks of the scope that the finalizer thread released, because nobody disposed what owned them. The framework finalizes
/// handles of its own as a matter of course: those count only where the owner's code itself called the disposable object that needed
/// them.
/// </summary>
internal static class FinalizerReleases
{
    /// <summary>How many there are, whosever they turn out to be. Costs a pass over a short list.</summary>
    public static long Count(LedgerReader ledger, BlockFilter filter)
    {
        long count = 0;
        foreach (ref readonly FinalizedEntry entry in ledger.Finalized)
        {
            count += IsCovered(entry, filter) ? 1 : 0;
        }

        return count;
    }

    /// <summary>Those that somebody is to be blamed for, by the contexts that allocated and released them.</summary>
    public static IEnumerable<(LiveGroup Group, Judgement Judgement)> Collect(LedgerReader ledger, BlockFilter filter, ContextResolver resolver)
    {
        var groups = new Dictionary<(uint Allocated, uint Freed), LiveGroup>();
        foreach (ref readonly FinalizedEntry entry in ledger.Finalized)
        {
            if (!IsCovered(entry, filter))
            {
                continue;
            }

            (uint, uint) key = (entry.AllocatedContext, entry.FreedContext);
            if (!groups.TryGetValue(key, out LiveGroup? group))
            {
                groups[key] = group = new LiveGroup(entry.AllocatedContext);
            }

            group.Add(new LiveBlock(entry.Address, (long)entry.SizeBytes, entry.AllocatedContext, entry.Epoch));
        }

        foreach (((uint allocated, uint freed), LiveGroup group) in groups)
        {
            // The runtime has its own reasons to free on that thread.
            if (!resolver.IsRuntimeBlock(allocated) &&
                FinalizedObject(resolver.Resolve(freed)) is { } finalized &&
                (finalized.IsSomebodys || IsUsedByOwner(resolver.Resolve(allocated))))
            {
                yield return (group, new Judgement("undisposed", "finalizer", finalized.Type));
            }
        }
    }

    private static bool IsCovered(in FinalizedEntry entry, BlockFilter filter) =>
        entry.IsComplete != 0 && filter.Of(entry.Epoch) is Belonging.Scope;

    /// <summary>
    /// The object whose finalizer stands outermost; null when none does: the finalizer thread works for others, too. A
    /// SafeHandle's finalizer is the framework's; whose handle it is, its ReleaseHandle tells.
    /// </summary>
    private static (string Type, bool IsSomebodys)? FinalizedObject(IReadOnlyList<ResolvedFrame> stack)
    {
        (string Type, bool IsSomebodys)? found = null;
        foreach (ResolvedFrame frame in stack)
        {
            if (frame.Frame is not { Kind: LeakFrameKind.Managed, Method: { } method })
            {
                continue;
            }

            (string type, string name) = Split(method);
            bool isHandle = type is "System.Runtime.InteropServices.SafeHandle" or "System.Runtime.InteropServices.CriticalHandle";
            if ((name == "Finalize" && !(isHandle && found is not null)) || (name == "ReleaseHandle" && !isHandle))
            {
                found = (type, Blame.IsOwner(frame));
            }
        }

        return found;
    }

    /// <summary>What the owner called belongs to a disposable object of the framework, or makes one.</summary>
    private static bool IsUsedByOwner(IReadOnlyList<ResolvedFrame> stack)
    {
        ResolvedFrame? called = null;
        foreach (ResolvedFrame frame in stack)
        {
            if (Blame.IsOwner(frame))
            {
                return called is { WorksForDisposable: true };
            }

            called = frame.Frame.Kind == LeakFrameKind.Managed ? frame : called;
        }

        return false;
    }

    /// <summary>Type and name of a method without generic arguments and parameters.</summary>
    private static (string Type, string Name) Split(string method)
    {
        int end = method.IndexOf('(', StringComparison.Ordinal);
        string name = end < 0 ? method : method[..end];
        int dot = name.LastIndexOf('.');
        return dot < 0 ? ("", name) : (name[..dot], name[(dot + 1)..]);
    }
}
