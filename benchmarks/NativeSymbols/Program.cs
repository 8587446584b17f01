using System.Diagnostics;
using System.Globalization;
using NativeLeaks.Symbols;
using NativeLeaks.Symbols.Native;

// usage: NativeSymbols LIBRARY ADDRESSES: prints milliseconds cold, milliseconds warm, frames, addresses without a name.
ulong[] addresses = [.. File.ReadLines(args[1]).Select(line => ulong.Parse(line, NumberStyles.HexNumber, CultureInfo.InvariantCulture))];
long start = Stopwatch.GetTimestamp();
using var symbols = NativeSymbols.Open(args[0], SymbolSettings.None);
(int frames, int unnamed) = FindAll();
double cold = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
start = Stopwatch.GetTimestamp();
FindAll();
double warm = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{cold:f1} {warm:f1} {frames} {unnamed}"));
foreach (string problem in symbols.Problems)
{
    Console.Error.WriteLine(problem);
}

(int Frames, int Unnamed) FindAll()
{
    int count = 0, without = 0;
    foreach (ulong address in addresses)
    {
        IReadOnlyList<SourceFrame> found = symbols.Find(address);
        count += found.Count;
        without += found.Count == 0 || found[^1].Function is null ? 1 : 0;
    }

    return (count, without);
}
