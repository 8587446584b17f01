using System.Reflection;
using System.Runtime.InteropServices;
using NativeLeaks.Ledger;

namespace NativeLeaks.Capture;

/// <summary>The shim's control functions: src/NativeShim/include/nlt_control.h.</summary>
internal static partial class ShimLibrary
{
    public const int AbiVersion = 3;
    private const string Name = "nativeleakshim";

    static ShimLibrary() => NativeLibrary.SetDllImportResolver(typeof(ShimLibrary).Assembly, Resolve);

    public enum Status
    {
        Ok = 0,
        NoMemory = 1,
        NoAllocator = 2,
        PatchFailed = 3,
        PreloadedTwice = 4,
    }

    [LibraryImport(Name, EntryPoint = "nlt_abi_version")]
    public static partial int GetAbiVersion();

    [LibraryImport(Name, EntryPoint = "nlt_install")]
    public static partial Status Install();

    [LibraryImport(Name, EntryPoint = "nlt_ledger")]
    public static partial nint GetLedger();

    [LibraryImport(Name, EntryPoint = "nlt_recording_begin")]
    public static partial void BeginRecording();

    [LibraryImport(Name, EntryPoint = "nlt_scope_open")]
    public static partial uint OpenScope(ScopeFlags flags, out uint tag);

    [LibraryImport(Name, EntryPoint = "nlt_scope_retag")]
    public static partial void RetagScope(uint scope, uint tag);

    [LibraryImport(Name, EntryPoint = "nlt_scope_close")]
    public static partial void CloseScope(uint scope);

    [LibraryImport(Name, EntryPoint = "nlt_thread_scope")]
    public static partial void SetThreadScope(uint scope);

    [LibraryImport(Name, EntryPoint = "nlt_epoch_advance")]
    public static partial void AdvanceEpoch(uint gcCount);

    [LibraryImport(Name, EntryPoint = "nlt_thread_is_finalizer")]
    public static partial void MarkFinalizerThread();

    [LibraryImport(Name, EntryPoint = "nlt_thread_quiet")]
    public static partial int SetThreadQuiet(int on);

    [LibraryImport(Name, EntryPoint = "nlt_own_memory")]
    public static unsafe partial uint GetOwnMemory((ulong Start, ulong SizeBytes)* ranges, uint capacity);

    [LibraryImport(Name, EntryPoint = "nlt_walk_places")]
    public static unsafe partial uint WalkPlaces(ulong* addresses, ulong* stackPointers, uint capacity);

    [LibraryImport(Name, EntryPoint = "nlt_pairing_begin")]
    [return: MarshalAs(UnmanagedType.Bool)]
    public static partial bool BeginPairing();

    [LibraryImport(Name, EntryPoint = "nlt_pairing_end")]
    public static partial void EndPairing();

    [LibraryImport(Name, EntryPoint = "nlt_live_word")]
    [SuppressGCTransition]
    public static partial ulong LiveWordAt(nint address);

    [LibraryImport(Name, EntryPoint = "nlt_wrong_function")]
    public static partial void NoteWrongFunction(nint address, ulong functions);

    /// <summary>The array is pinned: nothing is copied.</summary>
    [LibraryImport(Name, EntryPoint = "nlt_freeze")]
    public static partial FreezeStatus Freeze(out Frozen frozen, [Out] ThreadState[] threads, uint capacity);

    [LibraryImport(Name, EntryPoint = "nlt_thaw")]
    public static partial void Thaw(int processId);

    [LibraryImport(Name, EntryPoint = "nlt_read_memory")]
    public static unsafe partial long ReadMemory(int processId, ulong address, byte* to, ulong bytes);

    [LibraryImport(Name, EntryPoint = "nlt_thread_storages")]
    public static unsafe partial uint ThreadStorages(ThreadStorage* found, uint capacity);

    [LibraryImport(Name, EntryPoint = "nlt_is_regular_file", StringMarshalling = StringMarshalling.Utf8)]
    [return: MarshalAs(UnmanagedType.Bool)]
    public static partial bool IsRegularFile(string path);

    /// <summary>
    /// A preloaded shim is asked first, whatever its path: two copies would each see half of the calls. Then the file
    /// where the build and NuGet put it, then the runtime's own search.
    /// </summary>
    private static nint Resolve(string name, Assembly assembly, DllImportSearchPath? searchPath)
    {
        if (name != Name)
        {
            return 0;
        }

        nint program = NativeLibrary.GetMainProgramHandle();
        if (NativeLibrary.TryGetExport(program, "nlt_ledger", out _))
        {
            return program;
        }

        // A project reference leaves it under runtimes/ beside the assembly, where the runtime's search does not look; a
        // package's own asset and a publish for one platform are found by that search.
        string beside = Path.Combine(
            Path.GetDirectoryName(assembly.Location) is { Length: > 0 } folder ? folder : AppContext.BaseDirectory,
            "runtimes", "linux-x64", "native", "libnativeleakshim.so");
        return File.Exists(beside) ? NativeLibrary.Load(beside) : NativeLibrary.Load(Name, assembly, searchPath);
    }
}
