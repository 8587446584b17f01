using System.Runtime.InteropServices;

namespace NativeLeaks.Heap;

/// <summary>What of a thread can hold pointers.</summary>
/// <param name="Thread">Where it stood.</param>
/// <param name="Stack">The part of its stack that is in use; empty where the stack pointer is not known.</param>
/// <param name="Storage">Its thread-local variables: the block that the linker laid out, and those of libraries that were loaded later.</param>
internal sealed record ThreadArea(FrozenThread Thread, AddressRange Stack, IReadOnlyList<AddressRange> Storage);

/// <summary>Stacks and thread storage of all threads, as glibc lays them out (nptl/allocatestack.c, sysdeps/x86_64/nptl/tls.h).</summary>
internal static unsafe class ThreadAreas
{
    // Leaf functions may use this much below the stack pointer (System V ABI, AMD64, "The Stack Frame").
    private const ulong RedZoneBytes = 128;

    // struct pthread, rounded up: it lies at the thread pointer, the static TLS below it.
    private const ulong DescriptorBytes = 0x940;
    private const ulong DefaultStaticBytes = 8192;
    private const ulong MaxStaticBytes = 1 << 20;
    private const ulong MaxModules = 4096;

    private static readonly Lazy<ulong> s_staticBytes = new(ReadStaticBytes);

    public static ThreadArea[] Of(FrozenMemory memory, Func<ulong, ulong?> blockEndAt) =>
        [.. memory.Threads.Select(thread => Of(memory, thread, blockEndAt))];

    private static ThreadArea Of(FrozenMemory memory, FrozenThread thread, Func<ulong, ulong?> blockEndAt)
    {
        List<AddressRange> storage = [];
        if (thread.ThreadPointer != 0)
        {
            storage.Add(new AddressRange(
                thread.ThreadPointer + DescriptorBytes - Math.Max(s_staticBytes.Value, DescriptorBytes), thread.ThreadPointer + DescriptorBytes));
            storage.AddRange(DynamicBlocks(memory, thread.ThreadPointer, blockEndAt));
        }

        AddressRange stack = default;
        if (thread.StackPointer != 0 && MappingOf(memory, thread.StackPointer) is { } mapping)
        {
            // A stack that was made of a block ends with it; thread storage lies above the stack in the same mapping.
            ulong end = blockEndAt(thread.StackPointer) ?? mapping.End;
            if (storage.Count > 0 && storage[0].Start > thread.StackPointer && storage[0].Start < end)
            {
                end = storage[0].Start;
            }

            stack = new AddressRange(Math.Max(thread.StackPointer - RedZoneBytes, mapping.Start), end);
        }

        return new ThreadArea(thread, stack, storage);
    }

    /// <summary>
    /// Thread-local variables of libraries that were loaded after the thread's start: the thread's vector (dtv) has a pointer to a block for
    /// each, beside the block to be freed. The entry before the first says how many there are.
    /// </summary>
    private static IEnumerable<AddressRange> DynamicBlocks(FrozenMemory memory, ulong threadPointer, Func<ulong, ulong?> blockEndAt)
    {
        const ulong EntryBytes = 16;
        if (!memory.TryReadWord(threadPointer + 8, out ulong vector) || !memory.TryReadWord(vector - EntryBytes, out ulong count) ||
            count > MaxModules)
        {
            yield break;
        }

        for (ulong module = 1; module <= count; module++)
        {
            if (memory.TryReadWord(vector + (module * EntryBytes), out ulong block) && block is not (0 or ulong.MaxValue) &&
                (block < threadPointer - MaxStaticBytes || block > threadPointer) && blockEndAt(block) is { } end)
            {
                yield return new AddressRange(block, end);
            }
        }
    }

    private static MemoryMapping? MappingOf(FrozenMemory memory, ulong address)
    {
        foreach (MemoryMapping mapping in memory.Mappings)
        {
            if (address >= mapping.Start && address < mapping.End)
            {
                return mapping;
            }
        }

        return null;
    }

    /// <summary>Of the dynamic linker, which tells those who ask (sanitizers do): size and alignment, struct pthread included.</summary>
    private static ulong ReadStaticBytes()
    {
        if (!NativeLibrary.TryGetExport(NativeLibrary.GetMainProgramHandle(), "_dl_get_tls_static_info", out nint function))
        {
            return DefaultStaticBytes;
        }

        nuint bytes, alignment;
        ((delegate* unmanaged<nuint*, nuint*, void>)function)(&bytes, &alignment);
        return bytes > DescriptorBytes && bytes < MaxStaticBytes ? bytes : DefaultStaticBytes;
    }
}
