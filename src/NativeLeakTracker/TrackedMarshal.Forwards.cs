using System.ComponentModel;
using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using System.Runtime.InteropServices;

namespace NativeLeaks;

/// <content>
/// What neither allocates nor frees, passed on as it is, so that a file compiles with the alias: all of Marshal but
/// its Windows-only and its obsolete methods. A test compares the two classes.
/// </content>
public static unsafe partial class TrackedMarshal
{
    private const DynamicallyAccessedMemberTypes Constructors =
        DynamicallyAccessedMemberTypes.PublicConstructors | DynamicallyAccessedMemberTypes.NonPublicConstructors;

    /// <inheritdoc cref="Marshal.SystemDefaultCharSize"/>
    public static readonly int SystemDefaultCharSize = Marshal.SystemDefaultCharSize;

    /// <inheritdoc cref="Marshal.SystemMaxDBCSCharSize"/>
    public static readonly int SystemMaxDBCSCharSize = Marshal.SystemMaxDBCSCharSize;

    /// <inheritdoc cref="Marshal.AddRef(nint)"/>
    public static int AddRef(nint pUnk) => Marshal.AddRef(pUnk);

    /// <inheritdoc cref="Marshal.AreComObjectsAvailableForCleanup()"/>
    public static bool AreComObjectsAvailableForCleanup() => Marshal.AreComObjectsAvailableForCleanup();

    /// <inheritdoc cref="Marshal.CleanupUnusedObjectsInCurrentContext()"/>
    public static void CleanupUnusedObjectsInCurrentContext() => Marshal.CleanupUnusedObjectsInCurrentContext();

    /// <inheritdoc cref="Marshal.Copy(byte[], int, nint, int)"/>
    public static void Copy(byte[] source, int startIndex, nint destination, int length) =>
        Marshal.Copy(source, startIndex, destination, length);

    /// <inheritdoc cref="Marshal.Copy(char[], int, nint, int)"/>
    public static void Copy(char[] source, int startIndex, nint destination, int length) =>
        Marshal.Copy(source, startIndex, destination, length);

    /// <inheritdoc cref="Marshal.Copy(double[], int, nint, int)"/>
    public static void Copy(double[] source, int startIndex, nint destination, int length) =>
        Marshal.Copy(source, startIndex, destination, length);

    /// <inheritdoc cref="Marshal.Copy(short[], int, nint, int)"/>
    public static void Copy(short[] source, int startIndex, nint destination, int length) =>
        Marshal.Copy(source, startIndex, destination, length);

    /// <inheritdoc cref="Marshal.Copy(int[], int, nint, int)"/>
    public static void Copy(int[] source, int startIndex, nint destination, int length) =>
        Marshal.Copy(source, startIndex, destination, length);

    /// <inheritdoc cref="Marshal.Copy(long[], int, nint, int)"/>
    public static void Copy(long[] source, int startIndex, nint destination, int length) =>
        Marshal.Copy(source, startIndex, destination, length);

    /// <inheritdoc cref="Marshal.Copy(nint, byte[], int, int)"/>
    public static void Copy(nint source, byte[] destination, int startIndex, int length) =>
        Marshal.Copy(source, destination, startIndex, length);

    /// <inheritdoc cref="Marshal.Copy(nint, char[], int, int)"/>
    public static void Copy(nint source, char[] destination, int startIndex, int length) =>
        Marshal.Copy(source, destination, startIndex, length);

    /// <inheritdoc cref="Marshal.Copy(nint, double[], int, int)"/>
    public static void Copy(nint source, double[] destination, int startIndex, int length) =>
        Marshal.Copy(source, destination, startIndex, length);

    /// <inheritdoc cref="Marshal.Copy(nint, short[], int, int)"/>
    public static void Copy(nint source, short[] destination, int startIndex, int length) =>
        Marshal.Copy(source, destination, startIndex, length);

    /// <inheritdoc cref="Marshal.Copy(nint, int[], int, int)"/>
    public static void Copy(nint source, int[] destination, int startIndex, int length) =>
        Marshal.Copy(source, destination, startIndex, length);

    /// <inheritdoc cref="Marshal.Copy(nint, long[], int, int)"/>
    public static void Copy(nint source, long[] destination, int startIndex, int length) =>
        Marshal.Copy(source, destination, startIndex, length);

    /// <inheritdoc cref="Marshal.Copy(nint, nint[], int, int)"/>
    public static void Copy(nint source, nint[] destination, int startIndex, int length) =>
        Marshal.Copy(source, destination, startIndex, length);

    /// <inheritdoc cref="Marshal.Copy(nint, float[], int, int)"/>
    public static void Copy(nint source, float[] destination, int startIndex, int length) =>
        Marshal.Copy(source, destination, startIndex, length);

    /// <inheritdoc cref="Marshal.Copy(nint[], int, nint, int)"/>
    public static void Copy(nint[] source, int startIndex, nint destination, int length) =>
        Marshal.Copy(source, startIndex, destination, length);

    /// <inheritdoc cref="Marshal.Copy(float[], int, nint, int)"/>
    public static void Copy(float[] source, int startIndex, nint destination, int length) =>
        Marshal.Copy(source, startIndex, destination, length);

    /// <inheritdoc cref="Marshal.GenerateGuidForType(Type)"/>
    public static Guid GenerateGuidForType(Type type) => Marshal.GenerateGuidForType(type);

    /// <inheritdoc cref="Marshal.GenerateProgIdForType(Type)"/>
    [RequiresUnreferencedCode("Built-in COM support is not trim compatible", Url = "https://aka.ms/dotnet-illink/com")]
    public static string? GenerateProgIdForType(Type type) => Marshal.GenerateProgIdForType(type);

    /// <inheritdoc cref="Marshal.GetDelegateForFunctionPointer(nint, Type)"/>
    [RequiresDynamicCode(
        "Marshalling code for the delegate might not be available. Use the " +
        "GetDelegateForFunctionPointer<TDelegate> overload instead.")]
    [EditorBrowsable(EditorBrowsableState.Never)]
    public static Delegate GetDelegateForFunctionPointer(nint ptr, Type t) =>
        Marshal.GetDelegateForFunctionPointer(ptr, t);

    /// <inheritdoc cref="Marshal.GetDelegateForFunctionPointer{TDelegate}(nint)"/>
    public static TDelegate GetDelegateForFunctionPointer<TDelegate>(nint ptr) =>
        Marshal.GetDelegateForFunctionPointer<TDelegate>(ptr);

    /// <inheritdoc cref="Marshal.GetExceptionForHR(int, nint)"/>
    public static Exception? GetExceptionForHR(int errorCode, nint errorInfo) =>
        Marshal.GetExceptionForHR(errorCode, errorInfo);

    /// <inheritdoc cref="Marshal.GetExceptionForHR(int, in Guid, nint)"/>
    public static Exception? GetExceptionForHR(int errorCode, in Guid iid, nint pUnk) =>
        Marshal.GetExceptionForHR(errorCode, in iid, pUnk);

    /// <inheritdoc cref="Marshal.GetExceptionForHR(int)"/>
    public static Exception? GetExceptionForHR(int errorCode) => Marshal.GetExceptionForHR(errorCode);

    /// <inheritdoc cref="Marshal.GetExceptionPointers()"/>
    public static nint GetExceptionPointers() => Marshal.GetExceptionPointers();

    /// <inheritdoc cref="Marshal.GetFunctionPointerForDelegate(Delegate)"/>
    [RequiresDynamicCode(
        "Marshalling code for the delegate might not be available. Use the " +
        "GetFunctionPointerForDelegate<TDelegate> overload instead.")]
    [EditorBrowsable(EditorBrowsableState.Never)]
    public static nint GetFunctionPointerForDelegate(Delegate d) => Marshal.GetFunctionPointerForDelegate(d);

    /// <inheritdoc cref="Marshal.GetFunctionPointerForDelegate{TDelegate}(TDelegate)"/>
    public static nint GetFunctionPointerForDelegate<TDelegate>(TDelegate d) where TDelegate : notnull =>
        Marshal.GetFunctionPointerForDelegate<TDelegate>(d);

    /// <inheritdoc cref="Marshal.GetHINSTANCE(Module)"/>
    [RequiresAssemblyFiles(
        "Windows only assigns HINSTANCE to assemblies loaded from disk. This API will return -1 for modules " +
        "without a file on disk.")]
    public static nint GetHINSTANCE(Module m) => Marshal.GetHINSTANCE(m);

    /// <inheritdoc cref="Marshal.GetHRForException(Exception)"/>
    public static int GetHRForException(Exception? e) => Marshal.GetHRForException(e);

    /// <inheritdoc cref="Marshal.GetHRForLastWin32Error()"/>
    public static int GetHRForLastWin32Error() => Marshal.GetHRForLastWin32Error();

    /// <inheritdoc cref="Marshal.GetLastPInvokeError()"/>
    public static int GetLastPInvokeError() => Marshal.GetLastPInvokeError();

    /// <inheritdoc cref="Marshal.GetLastPInvokeErrorMessage()"/>
    public static string GetLastPInvokeErrorMessage() => Marshal.GetLastPInvokeErrorMessage();

    /// <inheritdoc cref="Marshal.GetLastSystemError()"/>
    public static int GetLastSystemError() => Marshal.GetLastSystemError();

    /// <inheritdoc cref="Marshal.GetLastWin32Error()"/>
    public static int GetLastWin32Error() => Marshal.GetLastWin32Error();

    /// <inheritdoc cref="Marshal.GetPInvokeErrorMessage(int)"/>
    public static string GetPInvokeErrorMessage(int error) => Marshal.GetPInvokeErrorMessage(error);

    /// <inheritdoc cref="Marshal.InitHandle(SafeHandle, nint)"/>
    public static void InitHandle(SafeHandle safeHandle, nint handle) => Marshal.InitHandle(safeHandle, handle);

    /// <inheritdoc cref="Marshal.IsComObject(object)"/>
    public static bool IsComObject(object o) => Marshal.IsComObject(o);

    /// <inheritdoc cref="Marshal.IsTypeVisibleFromCom(Type)"/>
    public static bool IsTypeVisibleFromCom(Type t) => Marshal.IsTypeVisibleFromCom(t);

    /// <inheritdoc cref="Marshal.OffsetOf(Type, string)"/>
    [EditorBrowsable(EditorBrowsableState.Never)]
    public static nint OffsetOf(Type t, string fieldName) => Marshal.OffsetOf(t, fieldName);

    /// <inheritdoc cref="Marshal.OffsetOf{T}(string)"/>
    public static nint OffsetOf<T>(string fieldName) => Marshal.OffsetOf<T>(fieldName);

    /// <inheritdoc cref="Marshal.Prelink(MethodInfo)"/>
    public static void Prelink(MethodInfo m) => Marshal.Prelink(m);

    /// <inheritdoc cref="Marshal.PrelinkAll(Type)"/>
    public static void PrelinkAll(Type c) => Marshal.PrelinkAll(c);

    /// <inheritdoc cref="Marshal.PtrToStringAnsi(nint, int)"/>
    public static string PtrToStringAnsi(nint ptr, int len) => Marshal.PtrToStringAnsi(ptr, len);

    /// <inheritdoc cref="Marshal.PtrToStringAnsi(nint)"/>
    public static string? PtrToStringAnsi(nint ptr) => Marshal.PtrToStringAnsi(ptr);

    /// <inheritdoc cref="Marshal.PtrToStringAuto(nint, int)"/>
    public static string? PtrToStringAuto(nint ptr, int len) => Marshal.PtrToStringAuto(ptr, len);

    /// <inheritdoc cref="Marshal.PtrToStringAuto(nint)"/>
    public static string? PtrToStringAuto(nint ptr) => Marshal.PtrToStringAuto(ptr);

    /// <inheritdoc cref="Marshal.PtrToStringBSTR(nint)"/>
    public static string PtrToStringBSTR(nint ptr) => Marshal.PtrToStringBSTR(ptr);

    /// <inheritdoc cref="Marshal.PtrToStringUTF8(nint, int)"/>
    public static string PtrToStringUTF8(nint ptr, int byteLen) => Marshal.PtrToStringUTF8(ptr, byteLen);

    /// <inheritdoc cref="Marshal.PtrToStringUTF8(nint)"/>
    public static string? PtrToStringUTF8(nint ptr) => Marshal.PtrToStringUTF8(ptr);

    /// <inheritdoc cref="Marshal.PtrToStringUni(nint, int)"/>
    public static string PtrToStringUni(nint ptr, int len) => Marshal.PtrToStringUni(ptr, len);

    /// <inheritdoc cref="Marshal.PtrToStringUni(nint)"/>
    public static string? PtrToStringUni(nint ptr) => Marshal.PtrToStringUni(ptr);

    /// <inheritdoc cref="Marshal.PtrToStructure(nint, Type)"/>
    [RequiresDynamicCode("Marshalling code for the object might not be available")]
    [EditorBrowsable(EditorBrowsableState.Never)]
    public static object? PtrToStructure(
        nint ptr,
        [DynamicallyAccessedMembers(Constructors)] Type structureType) =>
        Marshal.PtrToStructure(ptr, structureType);

    /// <inheritdoc cref="Marshal.PtrToStructure{T}(nint)"/>
    public static T? PtrToStructure<[DynamicallyAccessedMembers(Constructors)] T>(nint ptr) =>
        Marshal.PtrToStructure<T>(ptr);

    /// <inheritdoc cref="Marshal.PtrToStructure(nint, object)"/>
    [RequiresDynamicCode("Marshalling code for the object might not be available")]
    [EditorBrowsable(EditorBrowsableState.Never)]
    public static void PtrToStructure(nint ptr, object structure) => Marshal.PtrToStructure(ptr, structure);

    /// <inheritdoc cref="Marshal.PtrToStructure{T}(nint, T)"/>
    public static void PtrToStructure<T>(nint ptr, [DisallowNull] T structure) =>
        Marshal.PtrToStructure<T>(ptr, structure);

    /// <inheritdoc cref="Marshal.QueryInterface(nint, in Guid, out nint)"/>
    public static int QueryInterface(nint pUnk, in Guid iid, out nint ppv) =>
        Marshal.QueryInterface(pUnk, in iid, out ppv);

    /// <inheritdoc cref="Marshal.ReadByte(nint, int)"/>
    public static byte ReadByte(nint ptr, int ofs) => Marshal.ReadByte(ptr, ofs);

    /// <inheritdoc cref="Marshal.ReadByte(nint)"/>
    public static byte ReadByte(nint ptr) => Marshal.ReadByte(ptr);

    /// <inheritdoc cref="Marshal.ReadInt16(nint, int)"/>
    public static short ReadInt16(nint ptr, int ofs) => Marshal.ReadInt16(ptr, ofs);

    /// <inheritdoc cref="Marshal.ReadInt16(nint)"/>
    public static short ReadInt16(nint ptr) => Marshal.ReadInt16(ptr);

    /// <inheritdoc cref="Marshal.ReadInt32(nint, int)"/>
    public static int ReadInt32(nint ptr, int ofs) => Marshal.ReadInt32(ptr, ofs);

    /// <inheritdoc cref="Marshal.ReadInt32(nint)"/>
    public static int ReadInt32(nint ptr) => Marshal.ReadInt32(ptr);

    /// <inheritdoc cref="Marshal.ReadInt64(nint, int)"/>
    public static long ReadInt64(nint ptr, int ofs) => Marshal.ReadInt64(ptr, ofs);

    /// <inheritdoc cref="Marshal.ReadInt64(nint)"/>
    public static long ReadInt64(nint ptr) => Marshal.ReadInt64(ptr);

    /// <inheritdoc cref="Marshal.ReadIntPtr(nint, int)"/>
    public static nint ReadIntPtr(nint ptr, int ofs) => Marshal.ReadIntPtr(ptr, ofs);

    /// <inheritdoc cref="Marshal.ReadIntPtr(nint)"/>
    public static nint ReadIntPtr(nint ptr) => Marshal.ReadIntPtr(ptr);

    /// <inheritdoc cref="Marshal.Release(nint)"/>
    public static int Release(nint pUnk) => Marshal.Release(pUnk);

    /// <inheritdoc cref="Marshal.SetLastPInvokeError(int)"/>
    public static void SetLastPInvokeError(int error) => Marshal.SetLastPInvokeError(error);

    /// <inheritdoc cref="Marshal.SetLastSystemError(int)"/>
    public static void SetLastSystemError(int error) => Marshal.SetLastSystemError(error);

    /// <inheritdoc cref="Marshal.SizeOf(object)"/>
    [RequiresDynamicCode("Marshalling code for the object might not be available. Use the SizeOf<T> overload instead.")]
    [EditorBrowsable(EditorBrowsableState.Never)]
    public static int SizeOf(object structure) => Marshal.SizeOf(structure);

    /// <inheritdoc cref="Marshal.SizeOf(Type)"/>
    [RequiresDynamicCode("Marshalling code for the object might not be available. Use the SizeOf<T> overload instead.")]
    [EditorBrowsable(EditorBrowsableState.Never)]
    public static int SizeOf(Type t) => Marshal.SizeOf(t);

    /// <inheritdoc cref="Marshal.SizeOf{T}()"/>
    public static int SizeOf<T>() => Marshal.SizeOf<T>();

    /// <inheritdoc cref="Marshal.SizeOf{T}(T)"/>
    public static int SizeOf<T>(T structure) => Marshal.SizeOf<T>(structure);

    /// <inheritdoc cref="Marshal.ThrowExceptionForHR(int, nint)"/>
    public static void ThrowExceptionForHR(int errorCode, nint errorInfo) =>
        Marshal.ThrowExceptionForHR(errorCode, errorInfo);

    /// <inheritdoc cref="Marshal.ThrowExceptionForHR(int, in Guid, nint)"/>
    public static void ThrowExceptionForHR(int errorCode, in Guid iid, nint pUnk) =>
        Marshal.ThrowExceptionForHR(errorCode, in iid, pUnk);

    /// <inheritdoc cref="Marshal.ThrowExceptionForHR(int)"/>
    public static void ThrowExceptionForHR(int errorCode) => Marshal.ThrowExceptionForHR(errorCode);

    /// <inheritdoc cref="Marshal.UnsafeAddrOfPinnedArrayElement(Array, int)"/>
    [EditorBrowsable(EditorBrowsableState.Never)]
    public static nint UnsafeAddrOfPinnedArrayElement(Array arr, int index) =>
        Marshal.UnsafeAddrOfPinnedArrayElement(arr, index);

    /// <inheritdoc cref="Marshal.UnsafeAddrOfPinnedArrayElement{T}(T[], int)"/>
    public static nint UnsafeAddrOfPinnedArrayElement<T>(T[] arr, int index) =>
        Marshal.UnsafeAddrOfPinnedArrayElement<T>(arr, index);

    /// <inheritdoc cref="Marshal.WriteByte(nint, byte)"/>
    public static void WriteByte(nint ptr, byte val) => Marshal.WriteByte(ptr, val);

    /// <inheritdoc cref="Marshal.WriteByte(nint, int, byte)"/>
    public static void WriteByte(nint ptr, int ofs, byte val) => Marshal.WriteByte(ptr, ofs, val);

    /// <inheritdoc cref="Marshal.WriteInt16(nint, char)"/>
    public static void WriteInt16(nint ptr, char val) => Marshal.WriteInt16(ptr, val);

    /// <inheritdoc cref="Marshal.WriteInt16(nint, short)"/>
    public static void WriteInt16(nint ptr, short val) => Marshal.WriteInt16(ptr, val);

    /// <inheritdoc cref="Marshal.WriteInt16(nint, int, char)"/>
    public static void WriteInt16(nint ptr, int ofs, char val) => Marshal.WriteInt16(ptr, ofs, val);

    /// <inheritdoc cref="Marshal.WriteInt16(nint, int, short)"/>
    public static void WriteInt16(nint ptr, int ofs, short val) => Marshal.WriteInt16(ptr, ofs, val);

    /// <inheritdoc cref="Marshal.WriteInt32(nint, int, int)"/>
    public static void WriteInt32(nint ptr, int ofs, int val) => Marshal.WriteInt32(ptr, ofs, val);

    /// <inheritdoc cref="Marshal.WriteInt32(nint, int)"/>
    public static void WriteInt32(nint ptr, int val) => Marshal.WriteInt32(ptr, val);

    /// <inheritdoc cref="Marshal.WriteInt64(nint, int, long)"/>
    public static void WriteInt64(nint ptr, int ofs, long val) => Marshal.WriteInt64(ptr, ofs, val);

    /// <inheritdoc cref="Marshal.WriteInt64(nint, long)"/>
    public static void WriteInt64(nint ptr, long val) => Marshal.WriteInt64(ptr, val);

    /// <inheritdoc cref="Marshal.WriteIntPtr(nint, int, nint)"/>
    public static void WriteIntPtr(nint ptr, int ofs, nint val) => Marshal.WriteIntPtr(ptr, ofs, val);

    /// <inheritdoc cref="Marshal.WriteIntPtr(nint, nint)"/>
    public static void WriteIntPtr(nint ptr, nint val) => Marshal.WriteIntPtr(ptr, val);
}
