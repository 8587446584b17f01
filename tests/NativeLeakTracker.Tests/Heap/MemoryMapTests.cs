using NativeLeaks.Heap;

namespace NativeLeaks.Tests.Heap;

[TestFixture]
public sealed class MemoryMapTests
{
    [TestCase("7f0c54000000-7f0c54021000 rw-p 00000000 00:00 0 ", 0x7f0c54000000u, 0x7f0c54021000u, 3, false, 0u, "")]
    [TestCase("55d0-65d0 r-xp 0001b000 fe:00 1234    /usr/lib/a b (deleted)", 0x55d0u, 0x65d0u, 5, false, 0x1b000u, "/usr/lib/a b (deleted)")]
    [TestCase("1000-2000 ---s 7fffffff000 00:01 2049 /memfd:doublemapper (deleted)", 0x1000u, 0x2000u, 0, true, 0x7fffffff000u, "/memfd:doublemapper (deleted)")]
    [TestCase("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]", 0xffffffffff600000u, 0xffffffffff601000u, 4, false, 0u, "[vsyscall]")]
    public void Lines_of_proc_maps_are_read(string line, ulong start, ulong end, int protection, bool isShared, ulong offset, string path)
    {
        Assert.That(MemoryMap.TryParse(line, out MemoryMapping mapping), Is.True);
        Assert.That(mapping, Is.EqualTo(new MemoryMapping(start, end, (MemoryProtection)protection, isShared, offset, path)));
    }

    [TestCase("")]
    [TestCase("-")]
    [TestCase("1000-2000")]
    [TestCase("1000-2000 rw")]
    [TestCase("1000-2000 rw-p ")]
    [TestCase("2000-1000 rw-p 0 0:0 0")]
    [TestCase("zzzz-2000 rw-p 0 0:0 0")]
    [TestCase("11111111111111111-2 rw-p 0 0:0 0")]
    public void What_is_no_such_line_is_none(string line) => Assert.That(MemoryMap.TryParse(line, out _), Is.False);

    [Test]
    public void The_mapping_of_an_address_is_found()
    {
        IReadOnlyList<MemoryMapping> mappings = MemoryMap.OfThisProcess();
        Assert.That(mappings, Is.Ordered.By(nameof(MemoryMapping.Start)));
        foreach (MemoryMapping mapping in mappings)
        {
            Assert.That(MemoryMap.At(mappings, mapping.Start), Is.EqualTo(mapping));
            Assert.That(MemoryMap.At(mappings, mapping.End - 1), Is.EqualTo(mapping));
        }

        Assert.That(MemoryMap.At(mappings, 0).End, Is.Zero);
        Assert.That(MemoryMap.At(mappings, ulong.MaxValue).End, Is.Zero);
    }
}
