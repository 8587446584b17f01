using System.Runtime.InteropServices;
using NativeLeaks.Capture;

namespace NativeLeaks.Heap;

/// <summary>What of a thread can hold pointers.</summary>
/// <param name="Thread">Where it stood.</param>
/// <param name="Stack">The part of its stack that is in use; empty where the stack pointer is not known.</param>
/// <param name="Storage">Its thread-local variables, and its descriptor.</param>
internal sealed record ThreadArea(FrozenThread Thread, AddressRange Stack, IReadOnlyList<ThreadStorage> Storage);

/// <summary>Thread-local variables of a thread.</summary>
/// <param name="Range">Where they lie.</param>
/// <param name="Path">The file of the library whose they are; empty: it is not known.</param>
internal readonly record struct ThreadStorage(AddressRange Range, string Path);

/// <summary>Stacks and thread storage of all threads, as glibc lays them out (nptl/allocatestack.c, sysdeps/x86_64/nptl/tls.h).</summary>
internal static unsafe class ThreadAreas
{
    // Leaf functions may use this much below the stack pointer (System V ABI, AMD64, "The Stack Frame").
    private const ulong RedZoneBytes = 128;

    // struct pthread, rounded up: it lies at the thread pointer, the static TLS below it.
    private const ulong DescriptorBytes = 0x940;
    private const ulong DefaultStaticBytes = 8192;
    private const ulong MaxStaticBytes = 1 << 20;
    private const int MaxModules = 4096;

    private static readonly Lazy<ulong> s_staticBytes = new(ReadStaticBytes);

    public static ThreadArea[] Of(FrozenMemory memory, Func<ulong, ulong?> blockEndAt)
    {
        ulong here = memory.Threads.FirstOrDefault(static t => t.IsCaller)?.ThreadPointer ?? 0;
        Library[] libraries = [.. Libraries(memory, here)];
        return [.. memory.Threads.Select(thread => Of(memory, thread, libraries, blockEndAt))];
    }

    private static ThreadArea Of(FrozenMemory memory, FrozenThread thread, Library[] libraries, Func<ulong, ulong?> blockEndAt)
    {
        List<ThreadStorage> storage = [];
        if (thread.ThreadPointer != 0)
        {
            storage.AddRange(StaticBlock(thread.ThreadPointer, libraries));
            storage.AddRange(DynamicBlocks(memory, thread.ThreadPointer, libraries, blockEndAt));
        }

        AddressRange stack = default;
        if (thread.StackPointer != 0 && MappingOf(memory, thread.StackPointer) is { } mapping)
        {
            // A stack that was made of a block ends with it; thread storage lies above the stack in the same mapping.
            ulong end = blockEndAt(thread.StackPointer) ?? mapping.End;
            if (storage.Count > 0 && storage[0].Range.Start > thread.StackPointer && storage[0].Range.Start < end)
            {
                end = storage[0].Range.Start;
            }

            stack = new AddressRange(Math.Max(thread.StackPointer - RedZoneBytes, mapping.Start), end);
        }

        return new ThreadArea(thread, stack, storage);
    }

    /// <summary>
    /// Thread-local variables of libraries that were loaded after the thread's start: the thread's vector (dtv) has a pointer to a block for
    /// each, beside the block to be freed. The entry before the first says how many there are.
    /// </summary>
    private static IEnumerable<ThreadStorage> DynamicBlocks(
        FrozenMemory memory, ulong threadPointer, Library[] libraries, Func<ulong, ulong?> blockEndAt)
    {
        const ulong EntryBytes = 16;
        if (!memory.TryReadWord(threadPointer + 8, out ulong vector) || !memory.TryReadWord(vector - EntryBytes, out ulong count) ||
            count > (ulong)MaxModules)
        {
            yield break;
        }

        Dictionary<ulong, Library> byModule = libraries.ToLookup(static l => l.Module).ToDictionary(static l => l.Key, static l => l.First());
        for (ulong module = 1; module <= count; module++)
        {
            if (memory.TryReadWord(vector + (module * EntryBytes), out ulong block) && block is not (0 or ulong.MaxValue) &&
                (block < threadPointer - MaxStaticBytes || block > threadPointer) && blockEndAt(block) is { } end)
            {
                // To align the variables, the linker allocates more than they take.
                yield return byModule.TryGetValue(module, out Library library)
                    ? new ThreadStorage(new AddressRange(block, Math.Min(end, block + library.Bytes)), library.Path)
                    : new ThreadStorage(new AddressRange(block, end), "");
            }
        }
    }

    /// <summary>The descriptor and what the linker laid out below it, by library as far as that is known, in order of addresses.</summary>
    private static IEnumerable<ThreadStorage> StaticBlock(ulong threadPointer, Library[] libraries)
    {
        ulong at = threadPointer + DescriptorBytes - Math.Max(s_staticBytes.Value, DescriptorBytes);
        foreach (Library library in libraries.Where(static l => l.Below > 0).OrderByDescending(static l => l.Below))
        {
            ulong start = threadPointer - library.Below, end = Math.Min(start + library.Bytes, threadPointer);
            if (start < at)
            {
                continue;
            }

            if (start > at)
            {
                yield return new ThreadStorage(new AddressRange(at, start), "");
            }

            yield return new ThreadStorage(new AddressRange(start, end), library.Path);
            at = end;
        }

        yield return new ThreadStorage(new AddressRange(at, threadPointer + DescriptorBytes), "");
    }

    /// <summary>Those that have thread-local variables, as the linker tells it for the calling thread.</summary>
    private static IEnumerable<Library> Libraries(FrozenMemory memory, ulong threadPointer)
    {
        ShimLibrary.ThreadStorage[] found = new ShimLibrary.ThreadStorage[64];
        int count = ReadStorages(found);
        if (count > found.Length)
        {
            found = new ShimLibrary.ThreadStorage[Math.Min(count, MaxModules)];
            count = ReadStorages(found);
        }

        return found.Take(count).Select(storage => new Library(
            storage.Module,
            MemoryMap.At(memory.Mappings, storage.Headers).Path,
            storage.Address != 0 && storage.Address < threadPointer && threadPointer - storage.Address <= s_staticBytes.Value - DescriptorBytes
                ? threadPointer - storage.Address
                : 0,
            storage.SizeBytes));
    }

    private static int ReadStorages(ShimLibrary.ThreadStorage[] found)
    {
        fixed (ShimLibrary.ThreadStorage* first = found)
        {
            return (int)ShimLibrary.ThreadStorages(first, (uint)found.Length);
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

    /// <param name="Module">Its number in threads' vectors.</param>
    /// <param name="Path">Its file.</param>
    /// <param name="Below">How far below the thread pointer its variables begin; 0: they lie in a block of their own.</param>
    /// <param name="Bytes">Of its variables.</param>
    private readonly record struct Library(ulong Module, string Path, ulong Below, ulong Bytes);
}
