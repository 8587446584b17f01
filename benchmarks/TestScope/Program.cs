using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using NativeLeaks;

// What a clean assertion costs a test that allocates and frees 1,000 blocks: the test with a tracker and without, and two forced
// collections alone, in turns in one process. The first rounds, in which the runtime compiles, do not count.
//
//   TestScope [rounds]
int rounds = args is [var text, ..] ? int.Parse(text, CultureInfo.InvariantCulture) : 400;
NativeLeakOptions unchecked_ = new() { CheckPairing = false };
List<double> plain = [], tracked = [], withoutPairing = [], collections = [];
nint[] blocks = new nint[1000];
for (int round = -200; round < rounds; round++)
{
    double a = Microseconds(Body);
    double b = Microseconds(() =>
    {
        using var t = NativeLeakTracker.Start();
        Body();
        t.AssertNoLeaks();
    });
    double c = Microseconds(() =>
    {
        using var t = NativeLeakTracker.Start(unchecked_);
        Body();
        t.AssertNoLeaks();
    });
    double d = Microseconds(() =>
    {
        GC.Collect();
        GC.Collect();
    });
    if (round >= 0)
    {
        plain.Add(a);
        tracked.Add(b);
        withoutPairing.Add(c);
        collections.Add(d);
    }
}

Console.WriteLine(string.Create(
    CultureInfo.InvariantCulture,
    $"""
    1,000 blocks allocated and freed     {Median(plain):0} us
    with Start and a clean AssertNoLeaks {Median(tracked):0} us   {Median(tracked) / Median(plain):0.0} times, {(Median(tracked) - Median(plain)) / Median(collections):0.00} of two collections more
    the same without CheckPairing        {Median(withoutPairing):0} us   {Median(withoutPairing) / Median(plain):0.0} times, {(Median(withoutPairing) - Median(plain)) / Median(collections):0.00} of two collections more
    two forced collections               {Median(collections):0} us
    """));

void Body()
{
    for (int i = 0; i < blocks.Length; i++)
    {
        blocks[i] = Marshal.AllocHGlobal(16 + i);
    }

    foreach (nint block in blocks)
    {
        Marshal.FreeHGlobal(block);
    }
}

static double Microseconds(Action action)
{
    long start = Stopwatch.GetTimestamp();
    action();
    return Stopwatch.GetElapsedTime(start).TotalMicroseconds;
}

static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);
