using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Interop;

/// <summary>
/// Interop hello | pairs COUNT THREADS | sqlite ROWS THREADS | sqlite-malloc ROWS THREADS. All but the first print what they took by their own clock, so that
/// start-up stays out of the ratio; hello is start-up and nothing else.
/// </summary>
internal static unsafe partial class Program
{
    private const nint Transient = -1;
    private const int LookasideSetting = 1001;

    private static int Main(string[] args)
    {
        string workload = args.Length > 0 ? args[0] : "hello";
        int count = args.Length > 1 ? int.Parse(args[1], CultureInfo.InvariantCulture) : 0;
        int threads = args.Length > 2 ? int.Parse(args[2], CultureInfo.InvariantCulture) : 1;
        switch (workload)
        {
            case "hello":
                Console.WriteLine("hello");
                return 0;
            case "pairs":
                Pairs(10_000); // binds the imports and lets the JIT tier up, outside of the measurement
                Thread.Sleep(200);
                Pairs(10_000);
                Thread.Sleep(200);
                Measure(threads, () => Descend(6, count)); // malloc is called below 28 frames, the host's and the runtime's among them
                return 0;
            case "sqlite" or "sqlite-malloc":
                bool withPool = workload == "sqlite";
                Rows(1_000, withPool);
                Measure(threads, () => Rows(count, withPool));
                return 0;
            default:
                Console.Error.WriteLine("Usage: Interop hello | pairs COUNT THREADS | sqlite[-malloc] ROWS THREADS");
                return 2;
        }
    }

    private static void Measure(int threads, Action work)
    {
        var clock = Stopwatch.StartNew();
        Thread[] others = [.. Enumerable.Range(1, threads - 1).Select(_ => new Thread(() => work()))];
        foreach (Thread thread in others)
        {
            thread.Start();
        }

        work();
        foreach (Thread thread in others)
        {
            thread.Join();
        }

        Console.WriteLine($"elapsed_ns={clock.Elapsed.Ticks * 100}");
        string peak = File.ReadLines("/proc/self/status").First(static l => l.StartsWith("VmHWM:", StringComparison.Ordinal));
        Console.WriteLine($"peak_kb={peak.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]}");
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Descend(int depth, int count)
    {
        if (depth == 0)
        {
            Pairs(count);
            return 0;
        }

        return Descend(depth - 1, count) + 1;
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void Pairs(int count)
    {
        for (int i = 0; i < count; i++)
        {
            NativeMemory.Free(NativeMemory.Alloc((nuint)(16 + (i & 127))));
        }
    }

    /// <summary>As bindings do that prepare a statement for each use.</summary>
    private static void Rows(int rows, bool withPool)
    {
        Check(sqlite3_open(":memory:", out nint db));
        // Without its own pool for small blocks SQLite asks malloc for each: the harder case for who watches malloc.
        if (!withPool)
        {
            Check(sqlite3_db_config(db, LookasideSetting, 0, 0, 0));
        }

        Execute(db, "create table t(id integer primary key, name text, value real)");
        Execute(db, "create index i on t(name)");
        Execute(db, "begin");
        for (int i = 0; i < rows; i++)
        {
            Check(sqlite3_prepare_v2(db, "insert into t(name, value) values (?, ?)", -1, out nint insert, 0));
            nint name = Marshal.StringToCoTaskMemUTF8("name " + i.ToString(CultureInfo.InvariantCulture));
            Check(sqlite3_bind_text(insert, 1, name, -1, Transient));
            Marshal.FreeCoTaskMem(name);
            Check(sqlite3_bind_double(insert, 2, i * 0.5));
            _ = sqlite3_step(insert);
            Check(sqlite3_finalize(insert));
        }

        Execute(db, "commit");
        long length = 0;
        for (int i = 1; i <= rows; i++)
        {
            Check(sqlite3_prepare_v2(db, "select name, value from t where id = ?", -1, out nint select, 0));
            Check(sqlite3_bind_int(select, 1, i));
            _ = sqlite3_step(select);
            length += Marshal.PtrToStringUTF8(sqlite3_column_text(select, 0))!.Length;
            Check(sqlite3_finalize(select));
        }

        Check(sqlite3_close(db));
        if (length == 0)
        {
            throw new InvalidOperationException("no rows came back");
        }
    }

    private static void Execute(nint db, string sql) => Check(sqlite3_exec(db, sql, 0, 0, 0));

    private static void Check(int result)
    {
        if (result != 0)
        {
            throw new InvalidOperationException($"SQLite returned {result}");
        }
    }

#pragma warning disable IDE1006, SA1300 // SQLite's own names
    [LibraryImport("e_sqlite3", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int sqlite3_open(string name, out nint db);

    [LibraryImport("e_sqlite3")]
    private static partial int sqlite3_db_config(nint db, int setting, nint buffer, int size, int count);

    [LibraryImport("e_sqlite3")]
    private static partial int sqlite3_close(nint db);

    [LibraryImport("e_sqlite3", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int sqlite3_exec(nint db, string sql, nint callback, nint argument, nint error);

    [LibraryImport("e_sqlite3", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int sqlite3_prepare_v2(nint db, string sql, int bytes, out nint statement, nint tail);

    [LibraryImport("e_sqlite3")]
    private static partial int sqlite3_bind_text(nint statement, int index, nint text, int bytes, nint destructor);

    [LibraryImport("e_sqlite3")]
    private static partial int sqlite3_bind_int(nint statement, int index, int value);

    [LibraryImport("e_sqlite3")]
    private static partial int sqlite3_bind_double(nint statement, int index, double value);

    [LibraryImport("e_sqlite3")]
    private static partial int sqlite3_step(nint statement);

    [LibraryImport("e_sqlite3")]
    private static partial int sqlite3_finalize(nint statement);

    [LibraryImport("e_sqlite3")]
    private static partial nint sqlite3_column_text(nint statement, int column);
}
