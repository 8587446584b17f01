using NativeLeaks.Heap;
using NativeLeaks.Ledger;
using NativeLeaks.Symbols;

namespace NativeLeaks.Analysis;

/// <summary>
/// Native blocks that keep a pointer to the contents of a managed array or string which nothing pins: the collector moves the object, or
/// frees it, and the native side reads something else. What a <c>fixed</c> statement on some stack may still pin is let pass, and so are
/// words that point elsewhere into an object: memory that was never written can hold any.
/// </summary>
internal static class ManagedPointerBugs
{
    private const int MaxBugs = 20;

    /// <param name="found">What holds what.</param>
    /// <param name="nodes">The blocks to look into.</param>
    /// <param name="resolver">Names stacks.</param>
    public static IReadOnlyList<ManagedPointerBug> Find(Holders found, IReadOnlyList<int> nodes, ContextResolver resolver)
    {
        var bugs = new Dictionary<(uint Context, ulong Offset, string Target), (LiveBlock Block, long Count)>();
        List<(ulong Offset, ulong Pointer)> pointers = [];
        foreach (int node in nodes)
        {
            LiveBlock block = found.BlockAt(node)!.Value;
            found.PointersIntoManagedHeap(node, pointers);
            foreach ((ulong offset, ulong pointer) in pointers)
            {
                if (found.UnpinnedTarget(pointer) is { } target)
                {
                    (uint, ulong, string) key = (block.Context, offset, target);
                    bugs[key] = bugs.TryGetValue(key, out (LiveBlock Block, long Count) same) ? (same.Block, same.Count + 1) : (block, 1);
                }
            }
        }

        return
        [
            .. bugs.Take(MaxBugs).Select(b => new ManagedPointerBug(
                $"0x{b.Value.Block.Address:x}",
                (long)b.Key.Offset,
                b.Value.Count,
                b.Key.Target,
                $"A native block keeps a pointer to {b.Key.Target}, which nothing pins: once the collector moves or frees it, the pointer is wrong. " +
                "Pin it with a GCHandle for as long as native code may use it, or have the contents copied (SQLITE_TRANSIENT, for instance).",
                [.. resolver.Resolve(b.Key.Context).Select(static f => f.Frame)])),
        ];
    }
}
