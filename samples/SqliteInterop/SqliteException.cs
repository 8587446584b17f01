namespace SqliteInterop;

/// <summary>SQLite refused a call; the message is SQLite's own.</summary>
internal sealed class SqliteException(string message) : Exception(message);
