namespace NativeLeaks.Heap;

/// <summary>
/// Memory that was mapped directly: writable, private, anonymous, and neither a heap of malloc nor a stack, a library's data, the
/// managed heap's or the tracker's. Pools of libraries, and the runtime's own tables.
/// </summary>
internal static class UnownedMappings
{
    public static IEnumerable<AddressRange> Of(FrozenMemory memory, AddressRanges owned)
    {
        foreach (MemoryMapping mapping in memory.Mappings)
        {
            const MemoryProtection ReadWrite = MemoryProtection.Read | MemoryProtection.Write;
            bool isAnonymous = mapping.Path.Length == 0 || mapping.Path.StartsWith("[anon", StringComparison.Ordinal);
            if ((mapping.Protection & ReadWrite) == ReadWrite && !mapping.IsShared && isAnonymous)
            {
                foreach (AddressRange range in owned.Outside(new AddressRange(mapping.Start, mapping.End)))
                {
                    yield return range;
                }
            }
        }
    }
}
