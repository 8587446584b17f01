using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Holders;
using NativeLeaks;
using NativeLeaks.Heap;
using NativeLeaks.Heap.Managed;

// What it costs to find who holds each block: a heap of about 100 MB and 2,000,000 objects, 100,000 native blocks, a judgement of a
// fresh process and later ones, its parts, and beside them ClrMD's own walk over the objects of such a copy, in turns.
//
//   Holders [rounds]
const int Objects = 1_900_000;
int rounds = args is [var text, ..] ? int.Parse(text, CultureInfo.InvariantCulture) : 10;

Kept.Heap = HeapOf(Objects);
using NativeLeakTracker tracker = NativeLeakTracker.Start();
for (int i = 0; i < Kept.Holders.Length; i++)
{
    Kept.Holders[i] = new SafeBlock(Marshal.AllocHGlobal(48));
}

GC.Collect();
Console.WriteLine(string.Create(
    CultureInfo.InvariantCulture, $"heap of {GC.GetTotalMemory(false) / 1e6:0} MB, {Kept.Holders.Length:n0} blocks outstanding"));

NativeLeakReport? report = null;
Cost first = Measure(() => report = tracker.GetReport());
List<double> stops = [];
List<Cost> judgements = [], copies = [], opened = [], floods = [], paths = [], walks = [];
long objects = 0, live = 0, held = 0;
for (int round = 0; round < rounds; round++)
{
    judgements.Add(Measure(() => report = tracker.GetReport()));
    FrozenCopy copy = null!;
    copies.Add(Measure(() => copy = FrozenCopy.TryMake(out string? reason) ?? throw new InvalidOperationException(reason)));
    using (copy)
    {
        stops.Add(copy.Stopped.TotalMilliseconds);
        walks.Add(Measure(() => objects = ClrMdWalk.CountObjects(copy)));
        ManagedHeap managed = null!;
        opened.Add(Measure(() => managed = ManagedHeap.Open(copy)));
        using (managed)
        {
            List<ManagedHolder> found = [];
            var targets = new PointerTargets(
                [.. Kept.Holders.Select(static h => (ulong)h.DangerousGetHandle()).Order().Select(static b => new NativeNode(b, 48))]);
            floods.Add(Measure(() => managed.Flood(managed.Roots, targets, found)));
            (live, held) = (managed.LiveObjects, found.Count);
            paths.Add(Measure(() => _ = found.Take(3).Select(h => managed.PathTo(h)).ToArray()));
        }
    }
}

Console.WriteLine(string.Create(
    CultureInfo.InvariantCulture,
    $"""
    {report}
                                         wall, median      processor
    first judgement of the process       {first}
    later judgements                     {Median(judgements)}
    of it: the copy                      {Median(copies)}   (threads stopped {stops.Order().ElementAt(stops.Count / 2):0.0} ms)
           managed heap opened           {Median(opened)}
           {live:n0} live objects followed, {held:n0} holders
                                         {Median(floods)}
           three ways to holders         {Median(paths)}
    ClrMD, EnumerateObjects: {objects:n0} objects
           first                         {walks[0]}
           later                         {Median(walks)}
    managed part / ClrMD's walk          {(Median(opened).Wall + Median(floods).Wall) / Median(walks).Wall:0.00} of its time, {(Median(opened).Processor + Median(floods).Processor) / Median(walks).Processor:0.00} of its processor time
    """));
static object?[] HeapOf(int objects)
{
    var random = new Random(1);
    var all = new object?[objects / 2];
    for (int i = 0; i < all.Length; i++)
    {
        all[i] = new Node(i == 0 ? null : all[random.Next(i)], random.Next(3) == 0 ? new string('x', 20) : new object());
    }

    return all;
}

static Cost Measure(Action action)
{
    TimeSpan processor = Environment.CpuUsage.TotalTime;
    long start = Stopwatch.GetTimestamp();
    action();
    return new Cost(Stopwatch.GetElapsedTime(start).TotalMilliseconds, (Environment.CpuUsage.TotalTime - processor).TotalMilliseconds);
}

static Cost Median(List<Cost> costs) =>
    new(costs.Select(static c => c.Wall).Order().ElementAt(costs.Count / 2), costs.Select(static c => c.Processor).Order().ElementAt(costs.Count / 2));

internal readonly record struct Cost(double Wall, double Processor)
{
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Wall,9:0.0} ms   {Processor,9:0.0} ms");
}

internal static class Kept
{
    public static object?[] Heap { get; set; } = [];

    public static SafeBlock[] Holders { get; } = new SafeBlock[100_000];
}

internal sealed class Node(object? other, object content)
{
    public object? Other { get; } = other;

    public object Content { get; } = content;

    public long Number { get; set; }
}

internal sealed class SafeBlock : SafeHandle
{
    public SafeBlock(nint block)
        : base(0, ownsHandle: true) => SetHandle(block);

    public override bool IsInvalid => handle == 0;

    protected override bool ReleaseHandle()
    {
        Marshal.FreeHGlobal(handle);
        return true;
    }
}
