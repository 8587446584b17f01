using Microsoft.Diagnostics.Runtime;
using Microsoft.Diagnostics.Runtime.AbstractDac;

namespace NativeLeaks.RuntimeReader;

/// <summary>
/// Where the runtime keeps the number of heaps that are in use. With a heap for each processor (Server GC) there is a table of handles for
/// each, in use or not, but the runtime's reader looks at the first tables only, as many as there are heaps in use: when their number
/// goes down, it loses handles. No symbol tells where the number is. So it is found by trial: what the reader calls the number
/// of heaps changes with it.
/// </summary>
internal static class HeapCount
{
    private const int MaxTrials = 64;

    /// <returns>0: it was not found.</returns>
    public static ulong Find(CopiedMemory memory, Func<IServiceProvider> readAnew)
    {
        HashSet<ulong> read = [];
        memory.Numbers = read;
        int count;
        try
        {
            count = CountOf(readAnew);
        }
        finally
        {
            memory.Numbers = null;
        }

        foreach (ulong address in read.Where(address => memory.Read<int>(address) == count).Take(MaxTrials))
        {
            using (memory.Pretend(address, count + 1))
            {
                if (CountOf(readAnew) == count + 1)
                {
                    return address;
                }
            }
        }

        return 0;
    }

    private static int CountOf(Func<IServiceProvider> readAnew)
    {
        IServiceProvider services = readAnew();
        try
        {
            return services.GetService(typeof(IAbstractHeap)) is IAbstractHeap heap ? heap.State.HeapCount : 0;
        }
        finally
        {
            (services as IDisposable)?.Dispose();
        }
    }
}
