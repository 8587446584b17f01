using System.Diagnostics;
using System.Reflection;
using NativeLeaks.Capture;
using NativeLeaks.Reports;
using NativeLeaks.Symbols;
using NativeLeaks.Symbols.Managed;

namespace NativeLeaks.Analysis;

/// <summary>The report where the engine does not run: what the Tracked wrappers recorded, with managed stacks.</summary>
internal static class WrapperAnalysis
{
    public static NativeLeakReport Report(long sinceSequence, DateTimeOffset started)
    {
        IReadOnlyList<WrapperBlock> outstanding = WrapperLedger.Shared.Outstanding(sinceSequence);
        long bytes = outstanding.Sum(static b => b.SizeBytes ?? 0);
        return new NativeLeakReport
        {
            Process = ReportBuilder.DescribeProcess(started),
            Capture = new ReportedCapture(
                "wrappers", "exact", WrapperLedger.Shared.Dropped, 0, 0, 0, "running", "since Start() through the Tracked wrappers")
            {
                UnlistedReleases = WrapperLedger.Shared.UnlistedWrongReleases,
            },
            Totals = new ReportedTotals(
                outstanding.Count, bytes, WrapperLedger.Shared.Sequence - sinceSequence, AllocatedBytes: null),
            Leaks = [.. outstanding
                .GroupBy(static b => b.Api + "\n" + b.Stack)
                .Select(static g => Describe([.. g]))
                .OrderByDescending(static g => g.Bytes)],
            Kept = [],
            PairingBugs = [.. WrapperLedger.Shared.WrongReleases(sinceSequence)
                .GroupBy(static r => (r.Block.Api, r.Function, r.Block.Stack.ToString(), r.Stack.ToString()))
                .Select(static g => Describe([.. g]))],
            Excluded = [],
        };
    }

    private static LeakGroup Describe(WrapperBlock[] blocks)
    {
        WrapperBlock first = blocks[0];
        MethodBase[] methods = Methods(first.Stack);
        MethodBase? owner = methods.FirstOrDefault(
            static m => ModuleRoles.OfAssembly(m.Module.Assembly) == ModuleRole.Other);
        return new LeakGroup(
            "unclassified",
            blocks.Length,
            blocks.Sum(static b => b.SizeBytes ?? 0),
            blocks.Min(static b => b.SizeBytes ?? 0),
            blocks.Max(static b => b.SizeBytes ?? 0),
            first.Api,
            "System.Private.CoreLib.dll",
            owner?.Module.Name,
            Frames(first.Api, methods),
            [.. blocks.Take(4).Select(static b => $"0x{b.Address:x}")]);
    }

    private static PairingBug Describe(WrongRelease[] releases)
    {
        WrongRelease first = releases[0];
        return new PairingBug(
            "wrongFunction",
            $"0x{first.Block.Address:x}",
            releases.Length,
            PairingBugs.DescribeFunctions(first.Block.Family, first.Function),
            Frames(first.Function.Name(), Methods(first.Stack)))
        {
            AllocationStack = Frames(first.Block.Api, Methods(first.Block.Stack)),
        };
    }

    private static MethodBase[] Methods(StackTrace stack) =>
        [.. stack.GetFrames().Select(static f => f.GetMethod()).OfType<MethodBase>()];

    /// <summary>The call that the wrapper stands in for, and its callers.</summary>
    private static IReadOnlyList<LeakFrame> Frames(string api, MethodBase[] methods) =>
    [
        new LeakFrame(LeakFrameKind.Managed, api, "System.Private.CoreLib.dll"),
        .. methods.Select(static m => (Name: ReflectedNames.Describe(m), m.Module))
            .Select(static m => new LeakFrame(LeakFrameKind.Managed, m.Name.Text, m.Module.Name) { Symbol = m.Name.Symbol }),
    ];
}
