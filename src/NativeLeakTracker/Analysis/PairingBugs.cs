using NativeLeaks.Capture;
using NativeLeaks.Ledger;
using NativeLeaks.Symbols;

namespace NativeLeaks.Analysis;

/// <summary>The wrong releases that a report covers, with named stacks; those with the same stacks are one.</summary>
internal static class PairingBugs
{
    public static IReadOnlyList<PairingBug> Read(LedgerReader ledger, BlockFilter filter, ContextResolver resolver)
    {
        var bugs = new Dictionary<(string, string, string, string), PairingBug>();
        var identities = new StackIdentities();
        var attribution = new Attribution(resolver, filter);
        ReadOnlySpan<PairingEntry> entries = ledger.Pairings;
        for (int i = 1; i < entries.Length; i++)
        {
            // Written last: what stands in the entry is there once this is seen.
            if (Volatile.Read(ref System.Runtime.CompilerServices.Unsafe.AsRef(in entries[i].IsComplete)) == 0 ||
                !IsOurs(entries[i], filter, attribution))
            {
                continue;
            }

            PairingEntry entry = entries[i];
            IReadOnlyList<ResolvedFrame> release = WithoutTracker(resolver.Resolve(entry.ReleaseContext));
            IReadOnlyList<ResolvedFrame> first = resolver.Resolve(entry.FirstReleaseContext);
            IReadOnlyList<ResolvedFrame> allocation = resolver.Resolve(entry.AllocatedContext);
            string description = Describe(entry);
            (string, string, string, string) key =
                (description, identities.Of(release), identities.Of(first), identities.Of(allocation));
            bugs[key] = bugs.TryGetValue(key, out PairingBug? same)
                ? same with { Count = same.Count + 1 }
                : new PairingBug(KindOf(entry.Kind), $"0x{entry.Address:x}", 1, description, Frames(release))
                {
                    FirstReleaseStack = Frames(first),
                    AllocationStack = Frames(allocation),
                };
        }

        return [.. bugs.Values.OrderByDescending(static b => b.Count)];
    }

    /// <summary>
    /// A wrong release is the scope's in whose flow it was made. One by a thread outside of every scope is that of the block's own
    /// scope, or it is attributed as an allocation there would be.
    /// </summary>
    private static bool IsOurs(in PairingEntry entry, BlockFilter filter, Attribution attribution)
    {
        Belonging belonging = filter.Of(entry.Epoch);
        return belonging is Belonging.Outside or Belonging.Contested && filter.Of(entry.BlockEpoch) == Belonging.Scope ||
            (belonging != Belonging.Other && attribution.Exclude(entry.ReleaseContext, belonging) is null);
    }

    private static string KindOf(PairingKind kind) => kind switch
    {
        PairingKind.ReleasedBefore => "doubleFree",
        PairingKind.WrongFunction => "wrongFunction",
        _ => "notABlock",
    };

    private static string Describe(in PairingEntry entry)
    {
        string verb = entry.Flags.HasFlag(PairingFlags.Resize) ? "resized" : "released";
        return entry.Kind switch
        {
            PairingKind.ReleasedBefore =>
                $"a block of {Bytes(entry.SizeBytes)} was {verb} that had been released before",
            PairingKind.InsideBlock =>
                $"an address was {verb} that lies {Bytes(entry.Detail)} inside a block of {Bytes(entry.SizeBytes)}, not at its start",
            PairingKind.Misaligned => $"an address was {verb} at which no block starts: it is no multiple of 16",
            PairingKind.OnStack => $"an address was {verb} that lies on the stack of the thread",
            PairingKind.InImage => $"an address was {verb} that lies in a loaded program or library, not in the heap",
            PairingKind.WrongFunction => DescribeFunctions(
                (AllocationFamily)(entry.Detail & 0xff), (ReleaseFunction)((entry.Detail >> 8) & 0xff)),
            _ => $"an address was {verb} wrongly",
        };
    }

    /// <summary>What is said of a release by a function of another family.</summary>
    public static string DescribeFunctions(AllocationFamily family, ReleaseFunction function) =>
        $"memory of {family.Allocator()} was released by {function.Name()}; {family.Release()} belongs to it";

    private static string Bytes(ulong bytes) =>
        bytes == 1 ? "1 byte" : bytes.ToString("N0", System.Globalization.CultureInfo.InvariantCulture) + " bytes";

    private static IReadOnlyList<LeakFrame> Frames(IReadOnlyList<ResolvedFrame> stack) => [.. stack.Select(static f => f.Frame)];

    /// <summary>A wrapper that asks the engine stands inside itself: what it calls is the tracker's own affair.</summary>
    private static IReadOnlyList<ResolvedFrame> WithoutTracker(IReadOnlyList<ResolvedFrame> stack)
    {
        int wrapper = 0;
        while (wrapper < stack.Count && IsTrackers(stack[wrapper].Frame) && !IsWrapper(stack[wrapper].Frame))
        {
            wrapper++;
        }

        return wrapper == 0 ? stack : [.. stack.Skip(wrapper)];
    }

    private static bool IsTrackers(LeakFrame frame) =>
        frame is { Module: "NativeLeakTracker.dll" or "libnativeleakshim.so" } or { Kind: LeakFrameKind.Runtime, Module: null };

    private static bool IsWrapper(LeakFrame frame) =>
        frame.Method is { } method && method.StartsWith("NativeLeaks.Tracked", StringComparison.Ordinal);
}
