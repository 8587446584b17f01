using System.Runtime.InteropServices;

namespace SqliteInterop;

/// <summary>The part of SQLite's C interface that the sample uses, as SQLite declares it.</summary>
internal static partial class NativeMethods
{
    private const string Library = "e_sqlite3";

    internal const int Ok = 0;
    internal const int Row = 100;
    internal const int Done = 101;

    internal const int OpenReadWrite = 0x2;
    internal const int OpenCreate = 0x4;

    internal const int StatusMemoryUsed = 0;
    internal const int StatusMallocCount = 9;

    /// <summary>SQLITE_STATIC: the memory stays valid and unchanged for as long as it is bound; SQLite neither copies nor frees it.</summary>
    internal const nint Static = 0;

    /// <summary>SQLITE_TRANSIENT: the memory may go away; SQLite makes its own copy before the call returns.</summary>
    internal const nint Transient = -1;

    [LibraryImport(Library, EntryPoint = "sqlite3_open_v2", StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int Open(string path, out SafeDatabase database, int flags, nint vfs);

    [LibraryImport(Library, EntryPoint = "sqlite3_close")]
    internal static partial int Close(nint database);

    [LibraryImport(Library, EntryPoint = "sqlite3_shutdown")]
    internal static partial int Shutdown();

    /// <summary>The message belongs to SQLite and must not be freed.</summary>
    [LibraryImport(Library, EntryPoint = "sqlite3_errmsg")]
    internal static partial nint ErrorMessage(SafeDatabase database);

    [LibraryImport(Library, EntryPoint = "sqlite3_prepare_v2", StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int Prepare(SafeDatabase database, string sql, int maxBytes, out SafeStatement statement, nint tail);

    [LibraryImport(Library, EntryPoint = "sqlite3_finalize")]
    internal static partial int FinalizeStatement(nint statement);

    [LibraryImport(Library, EntryPoint = "sqlite3_bind_int64")]
    internal static partial int BindInt64(SafeStatement statement, int index, long value);

    [LibraryImport(Library, EntryPoint = "sqlite3_bind_blob")]
    internal static partial int BindBlob(SafeStatement statement, int index, nint data, int bytes, nint destructor);

    [LibraryImport(Library, EntryPoint = "sqlite3_clear_bindings")]
    internal static partial int ClearBindings(SafeStatement statement);

    [LibraryImport(Library, EntryPoint = "sqlite3_step")]
    internal static partial int Step(SafeStatement statement);

    [LibraryImport(Library, EntryPoint = "sqlite3_reset")]
    internal static partial int Reset(SafeStatement statement);

    /// <summary>The memory belongs to the statement and is valid until its next step, reset or finalization.</summary>
    [LibraryImport(Library, EntryPoint = "sqlite3_column_blob")]
    internal static partial nint ColumnBlob(SafeStatement statement, int column);

    [LibraryImport(Library, EntryPoint = "sqlite3_column_bytes")]
    internal static partial int ColumnBytes(SafeStatement statement, int column);

    [LibraryImport(Library, EntryPoint = "sqlite3_status64")]
    internal static partial int Status(int what, out long current, out long highest, int reset);
}
