using System.Runtime.InteropServices;
using System.Security;
using System.Text;
using NativeLeaks.Capture;

namespace NativeLeaks;

public static unsafe partial class TrackedMarshal
{
    /// <inheritdoc cref="Marshal.StringToHGlobalAnsi(string?)"/>
    public static nint StringToHGlobalAnsi(string? s) =>
        HGlobal(Marshal.StringToHGlobalAnsi(s), AnsiSizeBytes(s), "Marshal.StringToHGlobalAnsi(String)");

    /// <inheritdoc cref="Marshal.StringToHGlobalAuto(string?)"/>
    public static nint StringToHGlobalAuto(string? s) =>
        HGlobal(Marshal.StringToHGlobalAuto(s), AutoSizeBytes(s), "Marshal.StringToHGlobalAuto(String)");

    /// <inheritdoc cref="Marshal.StringToHGlobalUni(string?)"/>
    public static nint StringToHGlobalUni(string? s) =>
        HGlobal(Marshal.StringToHGlobalUni(s), Utf16SizeBytes(s), "Marshal.StringToHGlobalUni(String)");

    /// <inheritdoc cref="Marshal.StringToCoTaskMemAnsi(string?)"/>
    public static nint StringToCoTaskMemAnsi(string? s) =>
        CoTaskMem(Marshal.StringToCoTaskMemAnsi(s), AnsiSizeBytes(s), "Marshal.StringToCoTaskMemAnsi(String)");

    /// <inheritdoc cref="Marshal.StringToCoTaskMemAuto(string?)"/>
    public static nint StringToCoTaskMemAuto(string? s) =>
        CoTaskMem(Marshal.StringToCoTaskMemAuto(s), AutoSizeBytes(s), "Marshal.StringToCoTaskMemAuto(String)");

    /// <inheritdoc cref="Marshal.StringToCoTaskMemUni(string?)"/>
    public static nint StringToCoTaskMemUni(string? s) =>
        CoTaskMem(Marshal.StringToCoTaskMemUni(s), Utf16SizeBytes(s), "Marshal.StringToCoTaskMemUni(String)");

    /// <inheritdoc cref="Marshal.StringToCoTaskMemUTF8(string?)"/>
    public static nint StringToCoTaskMemUTF8(string? s) =>
        CoTaskMem(Marshal.StringToCoTaskMemUTF8(s), Utf8SizeBytes(s), "Marshal.StringToCoTaskMemUTF8(String)");

    /// <inheritdoc cref="Marshal.StringToBSTR(string?)"/>
    public static nint StringToBSTR(string? s) =>
        Bstr(Marshal.StringToBSTR(s), Utf16SizeBytes(s), "Marshal.StringToBSTR(String)");

    /// <inheritdoc cref="Marshal.SecureStringToGlobalAllocAnsi(SecureString)"/>
    public static nint SecureStringToGlobalAllocAnsi(SecureString s) =>
        HGlobal(
            Marshal.SecureStringToGlobalAllocAnsi(s),
            SecretSizeBytes,
            "Marshal.SecureStringToGlobalAllocAnsi(SecureString)");

    /// <inheritdoc cref="Marshal.SecureStringToGlobalAllocUnicode(SecureString)"/>
    public static nint SecureStringToGlobalAllocUnicode(SecureString s) =>
        HGlobal(
            Marshal.SecureStringToGlobalAllocUnicode(s),
            SecretSizeBytes,
            "Marshal.SecureStringToGlobalAllocUnicode(SecureString)");

    /// <inheritdoc cref="Marshal.SecureStringToCoTaskMemAnsi(SecureString)"/>
    public static nint SecureStringToCoTaskMemAnsi(SecureString s) =>
        CoTaskMem(
            Marshal.SecureStringToCoTaskMemAnsi(s),
            SecretSizeBytes,
            "Marshal.SecureStringToCoTaskMemAnsi(SecureString)");

    /// <inheritdoc cref="Marshal.SecureStringToCoTaskMemUnicode(SecureString)"/>
    public static nint SecureStringToCoTaskMemUnicode(SecureString s) =>
        CoTaskMem(
            Marshal.SecureStringToCoTaskMemUnicode(s),
            SecretSizeBytes,
            "Marshal.SecureStringToCoTaskMemUnicode(SecureString)");

    /// <inheritdoc cref="Marshal.SecureStringToBSTR(SecureString)"/>
    public static nint SecureStringToBSTR(SecureString s) =>
        Bstr(Marshal.SecureStringToBSTR(s), SecretSizeBytes, "Marshal.SecureStringToBSTR(SecureString)");

    /// <inheritdoc cref="Marshal.ZeroFreeGlobalAllocAnsi(nint)"/>
    public static void ZeroFreeGlobalAllocAnsi(nint s)
    {
        if (WrapperLedger.Shared.MayRelease(s, ReleaseFunction.ZeroFreeGlobalAllocAnsi))
        {
            Marshal.ZeroFreeGlobalAllocAnsi(s);
        }
    }

    /// <inheritdoc cref="Marshal.ZeroFreeGlobalAllocUnicode(nint)"/>
    public static void ZeroFreeGlobalAllocUnicode(nint s)
    {
        if (WrapperLedger.Shared.MayRelease(s, ReleaseFunction.ZeroFreeGlobalAllocUnicode))
        {
            Marshal.ZeroFreeGlobalAllocUnicode(s);
        }
    }

    /// <inheritdoc cref="Marshal.ZeroFreeCoTaskMemAnsi(nint)"/>
    public static void ZeroFreeCoTaskMemAnsi(nint s)
    {
        if (WrapperLedger.Shared.MayRelease(s, ReleaseFunction.ZeroFreeCoTaskMemAnsi))
        {
            Marshal.ZeroFreeCoTaskMemAnsi(s);
        }
    }

    /// <inheritdoc cref="Marshal.ZeroFreeCoTaskMemUnicode(nint)"/>
    public static void ZeroFreeCoTaskMemUnicode(nint s)
    {
        if (WrapperLedger.Shared.MayRelease(s, ReleaseFunction.ZeroFreeCoTaskMemUnicode))
        {
            Marshal.ZeroFreeCoTaskMemUnicode(s);
        }
    }

    /// <inheritdoc cref="Marshal.ZeroFreeCoTaskMemUTF8(nint)"/>
    public static void ZeroFreeCoTaskMemUTF8(nint s)
    {
        if (WrapperLedger.Shared.MayRelease(s, ReleaseFunction.ZeroFreeCoTaskMemUTF8))
        {
            Marshal.ZeroFreeCoTaskMemUTF8(s);
        }
    }

    /// <inheritdoc cref="Marshal.ZeroFreeBSTR(nint)"/>
    public static void ZeroFreeBSTR(nint s)
    {
        if (WrapperLedger.Shared.MayRelease(s, ReleaseFunction.ZeroFreeBSTR))
        {
            Marshal.ZeroFreeBSTR(s);
        }
    }

    // The sizes are what Marshal asks the allocator for, on every platform; a null string gives no block.
    private static long? AnsiSizeBytes(string? s) => (s?.Length + 1L) * Marshal.SystemMaxDBCSCharSize;

    private static long? Utf16SizeBytes(string? s) => (s?.Length + 1L) * sizeof(char);

    private static long? Utf8SizeBytes(string? s) => s is null ? null : Encoding.UTF8.GetMaxByteCount(s.Length) + 1L;

    private static long? AutoSizeBytes(string? s) => OperatingSystem.IsWindows() ? Utf16SizeBytes(s) : Utf8SizeBytes(s);

    // Asking a SecureString for its length could throw after the real call allocated: another thread may dispose it.
    private static long? SecretSizeBytes => null;
}
