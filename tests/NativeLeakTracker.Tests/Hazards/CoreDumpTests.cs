using System.Diagnostics;
using System.Globalization;

namespace NativeLeaks.Tests.Hazards;

/// <summary>
/// Dumps of a tracked process take no longer and grow no larger than its tables are, compared with the same process untracked.
/// With tables that are one large mapping, createdump did not end within 40 seconds.
/// </summary>
[TestFixture]
public sealed class CoreDumpTests
{
    private const int Kept = 200_000;
    private const long Megabyte = 1 << 20;
    private TemporaryFolder _folder = null!;

    [SetUp]
    public void Create_the_folder() => _folder = new TemporaryFolder();

    [TearDown]
    public void Remove_the_folder() => _folder.Dispose();

    [Test]
    public void Createdump()
    {
        string createdump = Path.Combine(Path.GetDirectoryName(typeof(object).Assembly.Location)!, "createdump");
        if (!File.Exists(createdump))
        {
            Assert.Ignore("This runtime came without createdump.");
        }

        Compare(
            (program, path) => Expect(ChildProcess.Run(createdump, ["--full", "-f", path, Pid(program)])),
            writesUntouchedMemory: true);
    }

    [Test]
    public void Gcore()
    {
        string gcore = Machine.Tool("gcore");
        Machine.Tool("gdb");

        Compare((program, path) =>
        {
            Expect(ChildProcess.Run(gcore, ["-o", path, Pid(program)], ("DEBUGINFOD_URLS", "")));
            File.Move(path + "." + Pid(program), path);
        });
    }

    [Test]
    public void Kernel_core_dump()
    {
        string pattern = File.ReadAllText("/proc/sys/kernel/core_pattern").Trim();
        if (pattern.Length == 0 || pattern.Contains('/', StringComparison.Ordinal) || pattern[0] == '|')
        {
            Assert.Ignore($"Here the kernel does not write core files into the process's folder (core_pattern is {pattern}).");
        }

        if (ChildProcess.Run("/bin/sh", ["-c", "ulimit -c unlimited"]).ExitCode != 0)
        {
            Assert.Ignore("Core files are forbidden here (ulimit -H -c).");
        }

        Compare(static (program, path) =>
        {
            // A signal that ends with a core dump and that the runtime has no use for.
            Expect(ChildProcess.Run("/bin/kill", ["-XCPU", Pid(program)]));
            Assert.That(program.WaitForExit(), Is.EqualTo(128 + 24));
            File.Move(Directory.EnumerateFiles(Path.GetDirectoryName(path)!, "core*").Single(), path);
        });
    }

    /// <param name="dump">Writes the dump of a program into a file.</param>
    /// <param name="writesUntouchedMemory">
    /// All that is readable is dumped, whether it was ever touched or not, and whether it is marked to be left out or
    /// not: live words are readable in pieces of 16 MB.
    /// </param>
    private void Compare(Action<RunningProgram, string> dump, bool writesUntouchedMemory = false)
    {
        Dump untracked = Measure("untracked", [], dump);
        Dump tracked = Measure("tracked", [ChildProcess.Preload], dump);
        TestContext.Out.WriteLine($"untracked {untracked}\ntracked   {tracked}");

        long resident = tracked.ResidentTableBytes - untracked.ResidentTableBytes;
        Assert.That(resident, Is.GreaterThan(Megabyte), "the tables of this many blocks");
        long tables = writesUntouchedMemory ? tracked.ReadableTableBytes - untracked.ReadableTableBytes : resident;
        Assert.That(tracked.Bytes, Is.AtMost(untracked.Bytes + tables + (10 * Megabyte)));
        Assert.That(tracked.Seconds, Is.AtMost((3 * untracked.Seconds) + 2));
    }

    private Dump Measure(string name, (string Name, string Value)[] environment, Action<RunningProgram, string> dump)
    {
        string folder = Directory.CreateDirectory(_folder.File(name)).FullName;
        using var program = RunningProgram.Start(
            "/bin/sh",
            ["-c", "ulimit -c unlimited; cd \"$1\"; shift; exec env \"$@\"", "sh", folder,
             .. environment.Select(static variable => $"{variable.Name}={variable.Value}"),
             ChildProcess.DotnetHost, RepositoryPaths.ChildProgram("Hazards"), "keep-and-wait", "-", $"{Kept}"]);
        (long resident, long readable) = TableBytes(program.Pid);
        string path = Path.Combine(folder, "dump");
        long started = Stopwatch.GetTimestamp();
        dump(program, path);
        double seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
        var result = new Dump(new FileInfo(path).Length, seconds, resident, readable);
        File.Delete(path);
        return result;
    }

    // Mappings that are marked to be left out of dumps ("dd" in smaps(5)): the tables, and some of the runtime's.
    private static (long Resident, long Readable) TableBytes(int pid)
    {
        (long Resident, long Readable) sum = (0, 0), mapping = (0, 0);
        bool isReadable = false;
        foreach (string line in File.ReadLines($"/proc/{pid}/smaps"))
        {
            string[] parts = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            switch (parts[0])
            {
                case "Size:":
                    mapping.Readable = isReadable ? Kilobytes(parts) : 0;
                    break;
                case "Rss:":
                    mapping.Resident = Kilobytes(parts);
                    break;
                case "VmFlags:" when parts.Contains("dd"):
                    sum = (sum.Resident + mapping.Resident, sum.Readable + mapping.Readable);
                    break;
                case [not (>= 'A' and <= 'Z'), ..]:
                    isReadable = parts[1][0] == 'r';
                    break;
            }
        }

        return sum;

        static long Kilobytes(string[] parts) => long.Parse(parts[1], CultureInfo.InvariantCulture) * 1024;
    }

    private static string Pid(RunningProgram program) => program.Pid.ToString(CultureInfo.InvariantCulture);

    private static void Expect(ChildResult run) => Assert.That(run.ExitCode, Is.Zero, run.Output + run.Error);

    private sealed record Dump(long Bytes, double Seconds, long ResidentTableBytes, long ReadableTableBytes);
}
