using System.Globalization;

namespace NativeLeaks.Heap;

/// <summary>What a process has mapped: /proc/PID/maps, each line <c>start-end protection offset device inode path</c> (proc(5)).</summary>
internal static class MemoryMap
{
    /// <summary>The calling process, as it is now.</summary>
    public static IReadOnlyList<MemoryMapping> OfThisProcess() => Read("/proc/self/maps");

    /// <summary>Empty when the process has gone, or may not be looked at.</summary>
    public static IReadOnlyList<MemoryMapping> Of(int processId) =>
        Read(string.Create(CultureInfo.InvariantCulture, $"/proc/{processId}/maps"));

    /// <summary>The mapping that holds an address, or the empty one; mappings are by address and do not overlap.</summary>
    public static MemoryMapping At(IReadOnlyList<MemoryMapping> mappings, ulong address)
    {
        int low = 0, high = mappings.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            (low, high) = mappings[middle].End <= address ? (middle + 1, high) : (low, middle);
        }

        return low < mappings.Count && mappings[low].Start <= address ? mappings[low] : new(0, 0, default, false, 0, "");
    }

    /// <summary>False: it is no such line.</summary>
    public static bool TryParse(ReadOnlySpan<char> line, out MemoryMapping mapping)
    {
        mapping = default;
        if (!TryTake(ref line, '-', out ulong start) || !TryTake(ref line, ' ', out ulong end) || line.Length < 5 || line[4] != ' ')
        {
            return false;
        }

        ReadOnlySpan<char> flags = line[..4];
        line = line[5..];
        if (!TryTake(ref line, ' ', out ulong offset) || end <= start)
        {
            return false;
        }

        // Device and inode; padding stands before the path, which may hold blanks of its own.
        for (int i = 0; i < 2; i++)
        {
            int blank = line.IndexOf(' ');
            line = blank < 0 ? [] : line[(blank + 1)..];
        }

        MemoryProtection protection =
            (flags[0] == 'r' ? MemoryProtection.Read : 0) |
            (flags[1] == 'w' ? MemoryProtection.Write : 0) |
            (flags[2] == 'x' ? MemoryProtection.Execute : 0);
        mapping = new MemoryMapping(start, end, protection, flags[3] == 's', offset, line.TrimStart(' ').ToString());
        return true;
    }

    private static bool TryTake(ref ReadOnlySpan<char> line, char until, out ulong number)
    {
        int length = line.IndexOf(until);
        if (!ulong.TryParse(length < 0 ? [] : line[..length], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out number))
        {
            return false;
        }

        line = line[(length + 1)..];
        return true;
    }

    private static List<MemoryMapping> Read(string path)
    {
        List<MemoryMapping> mappings = [];
        try
        {
            foreach (string line in File.ReadLines(path))
            {
                if (TryParse(line, out MemoryMapping mapping))
                {
                    mappings.Add(mapping);
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // What was read so far is all that can be told.
        }

        return mappings;
    }
}
