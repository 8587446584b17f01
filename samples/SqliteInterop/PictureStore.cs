using System.Runtime.CompilerServices;

namespace SqliteInterop;

/// <summary>A table of pictures, each a blob.</summary>
internal sealed class PictureStore : IDisposable
{
    private readonly BlobWriter _blobs;
    private readonly StatementEnd _end;
    private readonly Statement _insert;
    private readonly Statement _select;

    internal PictureStore(Database database, BlobWriter blobs, StatementEnd end)
    {
        database.Execute("CREATE TABLE picture (number INTEGER PRIMARY KEY, file BLOB NOT NULL)");
        _blobs = blobs;
        _end = end;
        _insert = database.Prepare("INSERT INTO picture (number, file) VALUES (?1, ?2)");
        _select = database.Prepare("SELECT file FROM picture WHERE number = ?1");
    }

    // Not inlined, so that the way from Main to the leak is whole also in optimized code.
    [MethodImpl(MethodImplOptions.NoInlining)]
    internal void Insert(int number, byte[] file)
    {
        try
        {
            _insert.Bind(1, number);
            _blobs.Bind(_insert, 2, file);
            _insert.Step();
        }
        finally
        {
            // First SQLite lets go of the memory, then it may be freed.
            _insert.Reset();
            _blobs.Release();
        }
    }

    /// <summary>Returns whether the stored picture is, byte for byte, the given one.</summary>
    internal bool Holds(int number, ReadOnlySpan<byte> file)
    {
        try
        {
            _select.Bind(1, number);
            return _select.Step() && _select.Blob(0).SequenceEqual(file);
        }
        finally
        {
            _select.Reset();
        }
    }

    public void Dispose()
    {
        _insert.Dispose();
        if (_end == StatementEnd.Finalize)
        {
            _select.Dispose();
        }
    }
}
