using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace SqliteInterop;

/// <summary>A way to hand a managed array to sqlite3_bind_blob: one that leaks, and its three repairs.</summary>
internal abstract class BlobWriter
{
    /// <summary>What this writer has allocated and not freed so far.</summary>
    internal Unfreed LeftUnfreed { get; private protected set; }

    internal abstract void Bind(Statement statement, int index, byte[] blob);

    /// <summary>Called when SQLite no longer reads what was bound last.</summary>
    internal virtual void Release()
    {
    }
}

/// <summary>Binds unmanaged memory as SQLITE_STATIC and forgets it: SQLite never frees it, and nobody else knows where it is.</summary>
internal sealed class LeakingBlobWriter : BlobWriter
{
    // Not inlined, so that the leak's stack names the method that allocated also in optimized code.
    [MethodImpl(MethodImplOptions.NoInlining)]
    internal override void Bind(Statement statement, int index, byte[] blob)
    {
        nint memory = Marshal.AllocHGlobal(blob.Length);
        LeftUnfreed += new Unfreed(Blocks: 1, blob.Length);
        Marshal.Copy(blob, 0, memory, blob.Length);
        statement.BindStatic(index, memory, blob.Length);
    }
}

/// <summary>Binds unmanaged memory as SQLITE_STATIC and frees it once the statement has run.</summary>
internal sealed class FreeingBlobWriter : BlobWriter
{
    private nint _memory;

    internal override void Bind(Statement statement, int index, byte[] blob)
    {
        _memory = Marshal.AllocHGlobal(blob.Length);
        Marshal.Copy(blob, 0, _memory, blob.Length);
        statement.BindStatic(index, _memory, blob.Length);
    }

    internal override void Release()
    {
        Marshal.FreeHGlobal(_memory);
        _memory = 0;
    }
}

/// <summary>Lets SQLite copy (SQLITE_TRANSIENT), and frees the memory as soon as the call has returned.</summary>
internal sealed class TransientBlobWriter : BlobWriter
{
    internal override void Bind(Statement statement, int index, byte[] blob)
    {
        nint memory = Marshal.AllocHGlobal(blob.Length);
        try
        {
            Marshal.Copy(blob, 0, memory, blob.Length);
            statement.BindCopy(index, memory, blob.Length);
        }
        finally
        {
            Marshal.FreeHGlobal(memory);
        }
    }
}

/// <summary>Binds the managed array itself as SQLITE_STATIC, pinned until the statement has run: no unmanaged memory, no copy.</summary>
internal sealed class PinnedBlobWriter : BlobWriter
{
    private PinnedGCHandle<byte[]> _pin;

    internal override unsafe void Bind(Statement statement, int index, byte[] blob)
    {
        _pin = new PinnedGCHandle<byte[]>(blob);
        statement.BindStatic(index, (nint)_pin.GetAddressOfArrayData(), blob.Length);
    }

    internal override void Release() => _pin.Dispose();
}
