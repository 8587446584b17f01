namespace NativeLeaks.Heap;
internal sealed record GlibcHeap(IReadOnlyList<AddressRange> AllocatorState, IReadOnlyList<AddressRange> ChunksInUse, IReadOnlyList<AddressRange> Heaps)
{ public static GlibcHeap? TryRead(FrozenMemory m, out string? r){ _ = m; r=null; return null;} }
