namespace NativeLeaks.Heap;

/// <summary>
/// Memory that was mapped directly: writable, private, anonymous, and neither a heap of malloc nor a stack, a library's data, the
/// managed heap's or the tracker's. Pools of libraries, and the runtime's own tables.
/// </summary>
internal static class UnownedMappings
{
    public static IEnumerable<AddressRange> Of(FrozenMemory memory, AddressRanges owned)
    {
        MemoryMapping below = default;
        foreach (MemoryMapping mapping in memory.Mappings)
        {
            // A guard below makes it a stack: of a thread of which nothing is known, or of one that has ended.
            bool isStack = below.End == mapping.Start && below.Protection == MemoryProtection.None && below.Path.Length == 0;
            below = mapping;
            const MemoryProtection ReadWrite = MemoryProtection.Read | MemoryProtection.Write;
            bool isAnonymous = mapping.Path.Length == 0 || mapping.Path.StartsWith("[anon", StringComparison.Ordinal);
            if ((mapping.Protection & ReadWrite) == ReadWrite && !mapping.IsShared && isAnonymous && !isStack)
            {
                foreach (AddressRange range in owned.Outside(new AddressRange(mapping.Start, mapping.End)))
                {
                    yield return range;
                }
            }
        }
    }
}
