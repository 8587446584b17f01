using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace SqliteInterop;

/// <summary>A connection to a database in memory.</summary>
internal sealed class Database : IDisposable
{
    private readonly SafeDatabase _handle;

    // Not inlined, so that a connection that was never closed shows who opened it.
    [MethodImpl(MethodImplOptions.NoInlining)]
    internal Database()
    {
        int result = NativeMethods.Open(":memory:", out _handle, NativeMethods.OpenReadWrite | NativeMethods.OpenCreate, vfs: 0);
        if (result != NativeMethods.Ok)
        {
            // SQLite hands out a connection also when it could not open: it carries the message, and must be closed.
            using (_handle)
            {
                throw Error(result);
            }
        }
    }

    /// <summary>False when SQLite refused to close the connection, which stays allocated then.</summary>
    internal bool ClosedWell => _handle.ClosedWell;

    internal void Execute(string sql)
    {
        using Statement statement = Prepare(sql);
        statement.Step();
    }

    // Not inlined, so that a statement that was never finalized shows where it came from.
    [MethodImpl(MethodImplOptions.NoInlining)]
    internal Statement Prepare(string sql)
    {
        Check(NativeMethods.Prepare(_handle, sql, maxBytes: -1, out SafeStatement statement, tail: 0));
        return new Statement(this, statement);
    }

    internal void Check(int result)
    {
        if (result != NativeMethods.Ok)
        {
            throw Error(result);
        }
    }

    internal SqliteException Error(int result) =>
        new($"SQLite: {(_handle.IsInvalid ? "out of memory" : Marshal.PtrToStringUTF8(NativeMethods.ErrorMessage(_handle)))} (code {result})");

    public void Dispose() => _handle.Dispose();
}
