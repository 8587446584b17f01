// How long the names and lines of 10,000 managed addresses of another process take, beside ClrMD's method look-up and IL offset
// for the same list: interleaved rounds in one run, each with everything opened anew.
//
//   ManagedSymbols <ledger of the process> <rounds>
using System.Diagnostics;
using System.Globalization;
using Microsoft.Diagnostics.Runtime;
using NativeLeaks.Ledger;
using NativeLeaks.Symbols;
using NativeLeaks.Symbols.Managed;

const int Wanted = 10_000;
int rounds = int.Parse(args[1], CultureInfo.InvariantCulture);
List<(uint Code, ulong Address)> list = List(args[0]);
int pid;
using (LedgerFile file = LedgerFile.Open(args[0]))
{
    pid = (int)file.Ledger.Header.Pid;
}

List<double> ours = [], clrMd = [];
int names = 0, lines = 0, offsets = 0, theirNames = 0, theirOffsets = 0;
for (int round = 0; round <= rounds; round++)
{
    var watch = Stopwatch.StartNew();
    (names, lines, offsets) = Ours(args[0], list);
    double own = watch.Elapsed.TotalMilliseconds;
    watch.Restart();
    (theirNames, theirOffsets) = ClrMd(pid, list);
    double other = watch.Elapsed.TotalMilliseconds;

    // The first round warms both up: it is compiled, and files come into the page cache.
    if (round > 0)
    {
        ours.Add(own);
        clrMd.Add(other);
    }

    Console.WriteLine($"{(round == 0 ? "cold" : "warm")}: ours {own:F0} ms, ClrMD {other:F0} ms, ratio {own / other:F2}");
}

ours.Sort();
clrMd.Sort();
Console.WriteLine(
    $"{list.Count} addresses; ours: {names} names, {offsets} IL offsets, {lines} lines; ClrMD: {theirNames} names, {theirOffsets} IL offsets; " +
    $"median {ours[rounds / 2]:F0} ms v {clrMd[rounds / 2]:F0} ms, ratio {ours[rounds / 2] / clrMd[rounds / 2]:F2}");
return 0;

// Recorded return addresses, and further ones in the same bodies until there are enough.
static List<(uint Code, ulong Address)> List(string ledger)
{
    using LedgerFile file = LedgerFile.Open(ledger);
    List<(uint Code, ulong Address)> recorded = [];
    foreach (ref readonly ContextEntry node in file.Ledger.Contexts)
    {
        CodeEntry code = file.Ledger.Code(node.Object);
        if (node.Kind == NodeKind.Managed && code.Token != 0 && code.Kind is CodeKind.Jit or CodeKind.ReadyToRun && node.Pc > code.Start)
        {
            recorded.Add((node.Object, node.Pc - 1));
        }
    }

    HashSet<(uint, ulong)> all = [.. recorded];
    for (ulong back = 3; all.Count < Wanted && back < 60; back += 3)
    {
        foreach ((uint code, ulong address) in recorded)
        {
            if (all.Count < Wanted && address - back > file.Ledger.Code(code).Start)
            {
                all.Add((code, address - back));
            }
        }
    }

    return [.. all.Take(Wanted)];
}

static (int Names, int Lines, int Offsets) Ours(string ledger, List<(uint Code, ulong Address)> list)
{
    using LedgerFile file = LedgerFile.Open(ledger);
    using var files = new AssemblyFiles(file.Ledger);
    var frames = new ManagedFrames(file.Ledger, files, SymbolSettings.None, isThisProcess: false);
    int names = 0, lines = 0, offsets = 0;
    foreach ((uint code, ulong address) in list)
    {
        ManagedFrame frame = frames.Find(code, address);
        names += frame.Name.Text.StartsWith('(') ? 0 : 1;
        offsets += frame.Il.Offset >= 0 ? 1 : 0;
        lines += frame.Line is null ? 0 : 1;
    }

    return (names, lines, offsets);
}

static (int Names, int Offsets) ClrMd(int pid, List<(uint Code, ulong Address)> list)
{
    using DataTarget target = DataTarget.AttachToProcess(pid, suspend: false);
    using ClrRuntime runtime = target.ClrVersions[0].CreateRuntime();
    int names = 0, offsets = 0;
    foreach ((_, ulong address) in list)
    {
        if (runtime.GetMethodByInstructionPointer(address) is { } method)
        {
            names += method.Signature is null ? 0 : 1;
            offsets += method.GetILOffset(address) >= 0 ? 1 : 0;
        }
    }

    return (names, offsets);
}
