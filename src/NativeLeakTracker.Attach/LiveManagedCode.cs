using Microsoft.Diagnostics.Runtime;
using NativeLeaks.Symbols.Managed;

namespace NativeLeaks.Attach;

/// <summary>
/// Names code of another live process from the data structures of its runtime (ClrMD). The process goes on meanwhile, so what
/// is read may be half changed: then a name is missing. Not thread-safe.
/// </summary>
internal sealed class LiveManagedCode : IManagedCode
{
    private const string StubPrefix = "IL_STUB";
    private const string StubType = "(dynamicClass)";
    private const int TokenRowMask = 0xffffff;

    // A miss may be a method that was compiled since; most are native code, and to forget everything costs 2 ms and more.
    private const long FlushEveryMilliseconds = 100;

    private readonly DataTarget _target;
    private readonly ClrRuntime _runtime;
    private readonly Dictionary<ulong, string> _names = [];
    private long _flushedAt = Environment.TickCount64;

    private LiveManagedCode(DataTarget target, ClrRuntime runtime)
    {
        _target = target;
        _runtime = runtime;
    }

    /// <summary>Null: ClrMD finds no runtime in the process that it understands.</summary>
    public static LiveManagedCode? TryOpen(int pid, out Exception? reason)
    {
        DataTarget? target = null;
        try
        {
            target = new DataTarget(
                new ProcessMemory(pid), new DataTargetOptions { FileLocator = new LocalFilesOnly(), SymbolPaths = [] });
            if (target.ClrVersions is [var version, ..])
            {
                reason = null;
                return new LiveManagedCode(target, version.CreateRuntime());
            }

            reason = null;
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // It reads what another process may be changing or another program may have damaged, and throws what it likes.
            reason = e;
        }

        target?.Dispose();
        return null;
    }

    public ManagedPlace? Find(ulong address)
    {
        try
        {
            ClrMethod? method = _runtime.GetMethodByInstructionPointer(address);
            if (method is null && Environment.TickCount64 - _flushedAt >= FlushEveryMilliseconds)
            {
                Flush();
                method = _runtime.GetMethodByInstructionPointer(address);
            }

            return method is null ? null : Describe(method, address);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            return null; // as above: costs this name, and no more
        }
    }

    /// <summary>Forgets what was read: code that was compiled since is found from now on.</summary>
    public void Flush()
    {
        _runtime.FlushCachedData();
        _names.Clear();
        _flushedAt = Environment.TickCount64;
    }

    public void Dispose()
    {
        _runtime.Dispose();
        _target.Dispose();
    }

    private ManagedPlace Describe(ClrMethod method, ulong address)
    {
        string name = method.Name ?? "";
        bool isGenerated = (method.MetadataToken & TokenRowMask) == 0;
        if (isGenerated)
        {
            // A user's DynamicMethod has no type; what the runtime makes for itself has one that stands for all.
            bool isStub = name.StartsWith(StubPrefix, StringComparison.Ordinal) || method.Type?.Name == StubType;
            return new ManagedPlace(isStub ? name : $"(dynamic) {name}", null, 0, -1, isStub);
        }

        if (!_names.TryGetValue(method.MethodDesc, out string? text))
        {
            _names[method.MethodDesc] = text = RuntimeNames.FromDac(method.Signature ?? name, name);
        }

        string? module = method.Type?.Module?.Name;
        return new ManagedPlace(text, string.IsNullOrEmpty(module) ? null : module, method.MetadataToken, IlOffset(method, address), false);
    }

    /// <summary>
    /// ClrMD's map is of one of the method's bodies, and a method may have several: as first compiled, optimised, replaced in a
    /// loop. Which one it is of shows in its addresses; an address outside of them belongs to a body that is not told of.
    /// </summary>
    private static int IlOffset(ClrMethod method, ulong address)
    {
        foreach (ILToNativeMap part in method.ILOffsetMap)
        {
            if (address >= part.StartAddress && address < part.EndAddress)
            {
                return Math.Max(part.ILOffset, -1);
            }
        }

        return -1;
    }
}
