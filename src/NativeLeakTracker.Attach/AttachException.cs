namespace NativeLeaks.Attach;

/// <summary>A process cannot be looked into. The message is one line that says why, and what to do.</summary>
public sealed class AttachException : Exception
{
    /// <summary>An exception with no more than its type to say.</summary>
    public AttachException()
    {
    }

    /// <summary>An exception with its line for people.</summary>
    public AttachException(string message)
        : base(message)
    {
    }

    /// <summary>An exception that another one led to.</summary>
    public AttachException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}
