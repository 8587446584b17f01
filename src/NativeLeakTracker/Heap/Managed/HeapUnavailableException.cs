namespace NativeLeaks.Heap.Managed;

/// <summary>The managed heap of this process cannot be looked into, now or later. The message says why, for people.</summary>
internal sealed class HeapUnavailableException(string message, Exception? innerException = null) : Exception(message, innerException);
