using Microsoft.Win32.SafeHandles;

namespace SqliteInterop;

/// <summary>A sqlite3_stmt*, finalized with sqlite3_finalize.</summary>
internal sealed class SafeStatement() : SafeHandleZeroOrMinusOneIsInvalid(ownsHandle: true)
{
    protected override bool ReleaseHandle()
    {
        // Its result repeats the error of the statement's last step; the memory is given back in any case.
        _ = NativeMethods.FinalizeStatement(handle);
        return true;
    }
}
