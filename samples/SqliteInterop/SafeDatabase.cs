using Microsoft.Win32.SafeHandles;

namespace SqliteInterop;

/// <summary>A sqlite3*, closed with sqlite3_close.</summary>
internal sealed class SafeDatabase() : SafeHandleZeroOrMinusOneIsInvalid(ownsHandle: true)
{
    /// <summary>False once sqlite3_close has refused, which it does (SQLITE_BUSY) while a statement is not finalized.</summary>
    internal bool ClosedWell { get; private set; } = true;

    // There is no second try: for .NET the handle is gone, whatever sqlite3_close answers. sqlite3_close_v2 would let
    // the last statement close the connection; the README says when to prefer it.
    protected override bool ReleaseHandle() => ClosedWell = NativeMethods.Close(handle) == NativeMethods.Ok;
}
