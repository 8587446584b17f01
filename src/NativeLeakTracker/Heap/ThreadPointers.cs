using System.Runtime.InteropServices;

namespace NativeLeaks.Heap;

/// <summary>
/// Finds the thread storage of threads that sleep and never called a hook, of which the engine could not note it. It begins with its own
/// address, which stands there once more 16 bytes on (glibc: tcbhead_t), and somewhere in it is the thread's number.
/// </summary>
internal static class ThreadPointers
{
    private const int SelfAgain = 16;

    // struct pthread is some 2,300 bytes; the number stands 720 bytes into it, in all versions so far.
    private const int FirstIdOffset = 0x40, LastIdOffset = 0x400;

    // The first thread's storage is in a small mapping of the dynamic linker's.
    private const ulong SmallMapping = 1 << 18;
    private const ulong MaxStack = 1 << 26;

    /// <summary>The same threads, with what could be found. Costs a pass over the stacks of those of which nothing is known.</summary>
    public static IReadOnlyList<FrozenThread> Complete(FrozenMemory memory, IReadOnlyList<FrozenThread> threads)
    {
        var missing = threads.Where(static thread => thread.ThreadPointer == 0).ToDictionary(static thread => (uint)thread.Id);
        if (missing.Count == 0 || IdOffset(memory, threads) is not { } idOffset)
        {
            return threads;
        }

        var found = new Dictionary<int, ulong>();
        foreach (FrozenThread thread in threads.Where(thread => thread.ThreadPointer == 0 && thread.StackPointer != 0))
        {
            MemoryMapping stack = MemoryMap.At(memory.Mappings, thread.StackPointer);
            if (stack.End - thread.StackPointer < MaxStack)
            {
                Search(memory, thread.StackPointer & ~7UL, stack.End);
            }
        }

        foreach (MemoryMapping mapping in memory.Mappings.Where(static mapping => IsSmall(mapping)))
        {
            if (found.Count < missing.Count)
            {
                Search(memory, mapping.Start, mapping.End);
            }
        }

        return [.. threads.Select(thread => found.TryGetValue(thread.Id, out ulong pointer) ? thread with { ThreadPointer = pointer } : thread)];

        void Search(FrozenMemory from, ulong start, ulong end)
        {
            var words = new RawWord[(end - start) / sizeof(ulong)];
            int count = from.Read(start, MemoryMarshal.AsBytes(words.AsSpan())) / sizeof(ulong);
            ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(words.AsSpan(0, count));
            for (int i = 0; i + (LastIdOffset / sizeof(ulong)) < count; i++)
            {
                ulong at = start + ((ulong)i * sizeof(ulong));
                if (words[i] == at && words[i + (SelfAgain / sizeof(ulong))] == at &&
                    missing.TryGetValue(BitConverter.ToUInt32(bytes[((i * sizeof(ulong)) + idOffset)..]), out FrozenThread? thread))
                {
                    found.TryAdd(thread.Id, at);
                }
            }
        }
    }

    private static bool IsSmall(MemoryMapping mapping) =>
        mapping.Path.Length == 0 && !mapping.IsShared && mapping.End - mapping.Start <= SmallMapping &&
        mapping.Protection == (MemoryProtection.Read | MemoryProtection.Write);

    /// <summary>Where the threads that are known have their numbers. Null: there is not one such place.</summary>
    private static int? IdOffset(FrozenMemory memory, IReadOnlyList<FrozenThread> threads)
    {
        List<int>? offsets = null;
        var descriptor = new byte[LastIdOffset];
        foreach (FrozenThread thread in threads.Where(static thread => thread.ThreadPointer != 0))
        {
            if (memory.Read(thread.ThreadPointer, descriptor) != descriptor.Length)
            {
                continue;
            }

            bool IsHere(int offset) => BitConverter.ToUInt32(descriptor, offset) == (uint)thread.Id;
            offsets = offsets is null
                ? [.. Enumerable.Range(FirstIdOffset / sizeof(uint), (LastIdOffset - FirstIdOffset) / sizeof(uint)).Select(static i => i * sizeof(uint)).Where(IsHere)]
                : offsets.FindAll(IsHere);
        }

        return offsets is [var only] ? only : null;
    }
}
