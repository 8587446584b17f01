namespace NativeLeaks.Heap.Managed;

/// <summary>The managed heap cannot be read at all; the message says why, as the second half of a sentence.</summary>
internal sealed class HeapUnavailableException(string message, Exception? cause = null) : Exception(message, cause);

/// <summary>The copy was made in the middle of a change: another one may be whole.</summary>
internal sealed class TornCopyException(string message, Exception? cause = null) : Exception(message, cause);
