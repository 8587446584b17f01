using NativeLeaks.Heap;

namespace NativeLeaks.Tests.Heap;

public sealed class AddressRangesTests
{
    [Test]
    public void What_is_outside_of_a_set_agrees_with_marking_each_address()
    {
        var random = new Random(5);
        for (int round = 0; round < 2_000; round++)
        {
            AddressRange[] parts = [.. Enumerable.Range(0, random.Next(8)).Select(_ => Random(random))];
            AddressRange asked = Random(random);
            var set = new AddressRanges(parts);

            bool[] expected = [.. Enumerable.Range(0, 120).Select(a => asked.Contains((ulong)a) && !parts.Any(p => p.Contains((ulong)a)))];
            AddressRange[] outside = [.. set.Outside(asked)];

            Assert.That(Enumerable.Range(0, 120).Select(a => outside.Any(o => o.Contains((ulong)a))), Is.EqualTo(expected));
            Assert.That(Enumerable.Range(0, 120).Select(a => set.Contains((ulong)a)), Is.EqualTo(Enumerable.Range(0, 120).Select(a => parts.Any(p => p.Contains((ulong)a)))));
            Assert.That(outside.All(static o => o.Start < o.End));
        }
    }

    private static AddressRange Random(Random random)
    {
        ulong start = (ulong)random.Next(100);
        return new AddressRange(start, start + (ulong)random.Next(20));
    }
}
