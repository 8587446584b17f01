using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.Versioning;
using NativeLeaks.Files;
using NativeLeaks.Ledger;
using NativeLeaks.Tests.Hazards;

namespace NativeLeaks.Tests.Ledger;

/// <summary>
/// Files that nobody should trust: a real ledger with bytes changed at random. It may be refused, or show less, or nonsense; it
/// may not crash its reader, hold it up or take all memory. NLT_FUZZ_SECONDS makes the run longer, NLT_FUZZ_SEED repeats one.
/// </summary>
[TestFixture]
[SupportedOSPlatform("linux")]
public sealed class DamagedLedgerTests
{
    private const long MaxMemoryBytes = 1L << 30;

    // Far more than any round needs; it only turns a hang into a failure.
    private static readonly TimeSpan s_hang = TimeSpan.FromMinutes(1);

    [Test]
    public void Changed_bytes_cost_no_more_than_what_they_stood_for()
    {
        int seconds = Setting("NLT_FUZZ_SECONDS") ?? 5, seed = Setting("NLT_FUZZ_SEED") ?? 1;
        using var folder = new TemporaryFolder();
        string path = folder.File("ledger");
        ChildResult run = ChildProcess.Run(
            HazardRun.Fixture("kept_blocks"), ["200", "return"], ChildProcess.Preload, ("NATIVELEAKS_LEDGER", path));
        Assert.That((run.ExitCode, run.Error), Is.EqualTo((7, "")));
        List<(long Start, long End)> targets = Targets(path);

        var clock = Stopwatch.StartNew();
        var random = new Random(seed);
        using var file = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        int refused = 0, read = 0;
        while (clock.Elapsed.TotalSeconds < seconds || refused + read < 50)
        {
            var undo = new Stack<(long Offset, byte[] Bytes)>();
            for (int changes = random.Next(1, 6); changes > 0; changes--)
            {
                undo.Push(ChangeSomething(file, random, targets));
            }

            string name = $"seed {seed}, round {refused + read}";
            Task<(bool IsRead, long AllocatedBytes)> reading = Task.Run(() => Reads(path, name));
            Assert.That(reading.Wait(s_hang), Is.True, $"{name} hangs");
            Assert.That(reading.Result.AllocatedBytes, Is.LessThan(MaxMemoryBytes), name);
            _ = reading.Result.IsRead ? read++ : refused++;
            foreach ((long offset, byte[] bytes) in undo)
            {
                file.Position = offset;
                file.Write(bytes);
                file.Flush();
            }
        }

        Assert.That((refused, read), Is.Not.EqualTo((0, 0)));
        Assert.That(refused, Is.Positive, "no change ever reached the layout");
        Assert.That(read, Is.Positive, "no change ever reached the content");
        TestContext.Out.WriteLine($"{refused} files refused, {read} read");

        using LedgerFile whole = LedgerFile.Open(path);
        Assert.That(EverythingIn.Read(whole.Ledger).Blocks, Is.AtLeast(200), "the file is as it was before");
    }

    /// <summary>All that is in the file, and the report of it, with the names of the program's own libraries.</summary>
    private static (bool IsRead, long AllocatedBytes) Reads(string path, string name)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        try
        {
            using (LedgerFile file = LedgerFile.Open(path))
            {
                EverythingIn.Read(file.Ledger);
            }

            NativeLeakReport.FromLedger(path).WriteText(TextWriter.Null);
            return (true, GC.GetAllocatedBytesForCurrentThread() - before);
        }
        catch (InvalidDataException)
        {
            return (false, GC.GetAllocatedBytesForCurrentThread() - before);
        }
        catch (Exception e)
        {
            throw new InvalidOperationException(name, e);
        }
    }

    // Where something was written; the header, the small tables and the chunks as often as all that is large.
    private static List<(long Start, long End)> Targets(string path)
    {
        using LedgerFile file = LedgerFile.Open(path);
        LedgerReader ledger = file.Ledger;
        List<(long Start, long End)> targets = [(0, Unsafe.SizeOf<LedgerHeader>()), (0, Unsafe.SizeOf<LedgerHeader>())];
        foreach (ref readonly TableEntry table in (ReadOnlySpan<TableEntry>)ledger.Header.Tables)
        {
            long start = (long)table.OffsetBytes, written = (long)table.Count * table.EntryBytes;
            targets.Add((start, start + Math.Max(written, 64)));
        }

        using RegularFile bytes = RegularFile.Open(path);
        foreach (ref readonly ChunkEntry chunk in ledger.Chunks)
        {
            if (chunk.Words != 0)
            {
                long start = (long)chunk.FileOffset;
                targets.AddRange(bytes.DataIn(start, start + ((long)chunk.WordCount * sizeof(ulong))));
            }
        }

        // Somewhere in the tables, written or not.
        targets.Add((0, (long)ledger.Header.SizeBytes));
        return targets;
    }

    private static (long Offset, byte[] Bytes) ChangeSomething(FileStream file, Random random, List<(long Start, long End)> targets)
    {
        (long start, long end) = targets[random.Next(targets.Count)];
        int width = 1 << random.Next(4);
        long offset = start + (random.NextInt64((end - start) / width) * width);
        var before = new byte[width];
        file.Position = offset;
        file.ReadExactly(before);
        var after = (byte[])before.Clone();
        switch (random.Next(4))
        {
            case 0:
                random.NextBytes(after);
                break;
            case 1:
                Array.Fill(after, (byte)0xff);
                break;
            case 2:
                Array.Clear(after);
                break;
            default:
                after[random.Next(width)] ^= (byte)(1 << random.Next(8));
                break;
        }

        file.Position = offset;
        file.Write(after);
        file.Flush();
        return (offset, before);
    }

    private static int? Setting(string name) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), CultureInfo.InvariantCulture, out int value) ? value : null;
}
