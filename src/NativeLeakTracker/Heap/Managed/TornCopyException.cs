namespace NativeLeaks.Heap.Managed;

/// <summary>
/// The copy shows the managed heap in a state in which it cannot be followed: in the middle of a collection, or damaged. Another
/// copy, made a moment later, may be better.
/// </summary>
internal sealed class TornCopyException(string message, Exception? innerException = null) : Exception(message, innerException);
