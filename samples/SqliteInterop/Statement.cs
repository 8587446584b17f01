namespace SqliteInterop;

/// <summary>A prepared statement: bind, step, read, reset, and again.</summary>
internal sealed class Statement(Database database, SafeStatement handle) : IDisposable
{
    internal void Bind(int index, long value) => database.Check(NativeMethods.BindInt64(handle, index, value));

    /// <summary>Binds memory that the caller keeps valid and unchanged until <see cref="Reset"/>.</summary>
    internal void BindStatic(int index, nint data, int bytes) =>
        database.Check(NativeMethods.BindBlob(handle, index, data, bytes, NativeMethods.Static));

    /// <summary>Binds a copy, which SQLite makes and frees.</summary>
    internal void BindCopy(int index, nint data, int bytes) =>
        database.Check(NativeMethods.BindBlob(handle, index, data, bytes, NativeMethods.Transient));

    /// <summary>Returns whether there is a row to read.</summary>
    internal bool Step() => NativeMethods.Step(handle) switch
    {
        NativeMethods.Row => true,
        NativeMethods.Done => false,
        int error => throw database.Error(error),
    };

    /// <summary>The blob of the current row, in SQLite's own memory: valid until the next step or reset.</summary>
    internal unsafe ReadOnlySpan<byte> Blob(int column)
    {
        // In this order: sqlite3_column_bytes tells the size of what sqlite3_column_blob has just returned.
        nint data = NativeMethods.ColumnBlob(handle, column);
        return new ReadOnlySpan<byte>((void*)data, NativeMethods.ColumnBytes(handle, column));
    }

    /// <summary>Makes the statement ready for its next use, and ends SQLite's hold on what was bound.</summary>
    internal void Reset()
    {
        // Both report an error that the last step has already reported.
        _ = NativeMethods.Reset(handle);

        // sqlite3_reset alone keeps the bindings: the statement would go on pointing to memory that is freed next.
        _ = NativeMethods.ClearBindings(handle);
    }

    public void Dispose() => handle.Dispose();
}
