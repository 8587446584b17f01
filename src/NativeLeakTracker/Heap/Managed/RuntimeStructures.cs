using System.Diagnostics.CodeAnalysis;

namespace NativeLeaks.Heap.Managed;

/// <summary>
/// What the runtime's own reader (ClrMD, carried as a resource) tells of a copy. There is one for the copies of this process, which
/// is kept: to load it takes some tenths of a second. Belongs to whoever opened it until it is disposed. Any question may
/// throw <see cref="TornCopyException"/>.
/// </summary>
internal sealed unsafe class RuntimeStructures : IDisposable
{
    private const string Adapter = "NativeLeakTracker.RuntimeReader";
    private const string RuntimeName = "libcoreclr.so";
    private const string ReaderName = "libmscordaccore.so";

    private static readonly SemaphoreSlim s_one = new(1, 1);
    private static RuntimeStructures? s_kept;

    private readonly object _reader;
    private readonly bool _isKept;
    private readonly Action<int, Func<ulong, nint, int, int>> _pointAt;
    private readonly Action _release;
    private readonly Func<ulong> _contractDescriptor;

    private RuntimeStructures(FrozenMemory memory, in MemoryMapping runtime, string readerPath, bool isKept)
    {
        _isKept = isKept;
        Type type = CarriedAssemblies.Load(Adapter).GetType("NativeLeaks.RuntimeReader.Reader", throwOnError: true)!;
        _reader = Activator.CreateInstance(type, runtime.Start, runtime.Path, readerPath, memory.ProcessId, ReadFrom(memory))!;
        try
        {
            _pointAt = Bind<Action<int, Func<ulong, nint, int, int>>>("PointAt");
            _release = Bind<Action>("Release");
            _contractDescriptor = Bind<Func<ulong>>("ContractDescriptor");
            IsWalkable = Bind<Func<bool>>(nameof(IsWalkable));
            IsServer = Bind<Func<bool>>(nameof(IsServer));
            Segments = Bind<Func<(ulong, ulong, int)[]>>(nameof(Segments));
            Reserved = Bind<Func<(ulong, ulong)[]>>(nameof(Reserved));
            AllocationContexts = Bind<Func<(ulong, ulong)[]>>(nameof(AllocationContexts));
            Handles = Bind<Func<(ulong, ulong, int, ulong)[]>>(nameof(Handles));
            FinalizerQueue = Bind<Func<(ulong, ulong)[]>>(nameof(FinalizerQueue));
            Threads = Bind<Func<(ulong, int, int)[]>>(nameof(Threads));
            Modules = Bind<Func<ulong[]>>(nameof(Modules));
            LoaderAllocatorHandle = Bind<Func<ulong, ulong>>(nameof(LoaderAllocatorHandle));
            TypeName = Bind<Func<ulong, string>>(nameof(TypeName));
            FullTypeName = Bind<Func<ulong, string>>(nameof(FullTypeName));
            RawTypeName = Bind<Func<ulong, string>>(nameof(RawTypeName));
            Fields = Bind<Func<ulong, ulong, (int, int, int, string)[]>>(nameof(Fields));
            StaticFields = Bind<Func<ulong, (int, bool, bool, string)[]>>(nameof(StaticFields));
            MethodNames = Bind<Func<ulong, string[]>>(nameof(MethodNames));
            MethodAt = Bind<Func<ulong, string>>(nameof(MethodAt));
            Contract = RuntimeContract.Read(memory, _contractDescriptor());
        }
        catch
        {
            ((IDisposable)_reader).Dispose();
            throw;
        }
    }

    public RuntimeContract Contract { get; }

    /// <summary>False: a collection is under way.</summary>
    public Func<bool> IsWalkable { get; }

    /// <summary>Whether there is a heap for each processor, whose handles are not all found.</summary>
    public Func<bool> IsServer { get; }

    /// <summary>The parts of the heap, by <see cref="SegmentKind"/>.</summary>
    public Func<(ulong Start, ulong End, int Kind)[]> Segments { get; }

    /// <summary>Address space that is the collector's.</summary>
    public Func<(ulong Start, ulong End)[]> Reserved { get; }

    /// <summary>What threads have for their next objects.</summary>
    public Func<(ulong Next, ulong End)[]> AllocationContexts { get; }

    /// <summary>By <see cref="HandleKind"/>; the second object is that of a dependent handle.</summary>
    public Func<(ulong Slot, ulong Object, int Kind, ulong Second)[]> Handles { get; }

    /// <summary>Where it stands which objects wait for their finalizer.</summary>
    public Func<(ulong Start, ulong End)[]> FinalizerQueue { get; }

    /// <summary>The runtime's structure of each thread, its number in .NET and in the kernel.</summary>
    public Func<(ulong Address, int ManagedId, int Id)[]> Threads { get; }

    /// <summary>The runtime's structures of modules.</summary>
    public Func<ulong[]> Modules { get; }

    /// <summary>The handle of what keeps a collectible type's assembly loaded; else 0.</summary>
    public Func<ulong, ulong> LoaderAllocatorHandle { get; }

    /// <summary>A type's own name, as C# writes it.</summary>
    public Func<ulong, string> TypeName { get; }

    /// <summary>The same with its namespace and the types around it.</summary>
    public Func<ulong, string> FullTypeName { get; }

    /// <summary>A type's name as the runtime spells it.</summary>
    public Func<ulong, string> RawTypeName { get; }

    /// <summary>The fields, by <see cref="FieldKind"/>, of an object, or of the elements of an array, of the given type.</summary>
    public Func<ulong, ulong, (int Offset, int Bytes, int Kind, string Name)[]> Fields { get; }

    /// <summary>The static fields of a type, by their places in its storage.</summary>
    public Func<ulong, (int Offset, bool IsThreads, bool IsReference, string Name)[]> StaticFields { get; }

    /// <summary>The methods of a type, as the runtime spells them.</summary>
    public Func<ulong, string[]> MethodNames { get; }

    /// <summary>The method at an address, as the runtime spells it.</summary>
    public Func<ulong, string> MethodAt { get; }

    /// <summary>Waits until whoever opened the last one has disposed it.</summary>
    /// <exception cref="HeapUnavailableException">There is no runtime in the copy that can be read.</exception>
    public static RuntimeStructures Open(FrozenMemory memory)
    {
        // One that is not of this process may have another runtime at the same place.
        bool isKept = memory is FrozenCopy;
        s_one.Wait();
        try
        {
            if (isKept && s_kept is { } kept)
            {
                kept.Ask(() => kept._pointAt(memory.ProcessId, ReadFrom(memory)));
                return kept;
            }

            RuntimeStructures opened = Load(memory, isKept);
            s_kept = isKept ? opened : s_kept;
            return opened;
        }
        catch
        {
            s_one.Release();
            throw;
        }
    }

    /// <summary>Asks, and turns whatever goes wrong into the exception that says so.</summary>
    [SuppressMessage("Design", "CA1031:Do not catch general exception types",
        Justification = "It reads memory that may be damaged, and throws what it likes.")]
    [SuppressMessage("Performance", "CA1822:Mark members as static", Justification = "A question is asked of somebody.")]
    public T Ask<T>(Func<T> question)
    {
        try
        {
            return question();
        }
        catch (Exception e) when (e is not (TornCopyException or HeapUnavailableException or OutOfMemoryException))
        {
            throw new TornCopyException($"The runtime's structures cannot be read: {e.Message}", e);
        }
    }

    public void Dispose()
    {
        try
        {
            if (_isKept)
            {
                Ask(_release);
            }
            else
            {
                ((IDisposable)_reader).Dispose();
            }
        }
        catch (TornCopyException)
        {
            s_kept = null; // the next copy gets a new one
        }
        finally
        {
            s_one.Release();
        }
    }

    private void Ask(Action question) => Ask(() =>
    {
        question();
        return true;
    });

    [SuppressMessage("Design", "CA1031:Do not catch general exception types", Justification = "Whatever it is, the reason is passed on.")]
    private static RuntimeStructures Load(FrozenMemory memory, bool isKept)
    {
        MemoryMapping runtime = memory.Mappings.FirstOrDefault(static m => m.Offset == 0 && Path.GetFileName(m.Path) == RuntimeName);
        if (runtime.Path is null)
        {
            throw new HeapUnavailableException(
                $"the process has no {RuntimeName}: a program that was published as a single file or compiled ahead of time cannot be looked into");
        }

        string reader = Path.Combine(Path.GetDirectoryName(runtime.Path)!, ReaderName);
        if (!File.Exists(reader))
        {
            throw new HeapUnavailableException($"the .NET runtime has no {ReaderName} beside it, as a full installation has");
        }

        try
        {
            return new RuntimeStructures(memory, in runtime, reader, isKept);
        }
        catch (Exception e) when (e is not HeapUnavailableException)
        {
            Exception cause = e is System.Reflection.TargetInvocationException { InnerException: { } inner } ? inner : e;
            throw new HeapUnavailableException($"the .NET runtime cannot be read ({cause.Message.TrimEnd('.')})", cause);
        }
    }

    private static Func<ulong, nint, int, int> ReadFrom(FrozenMemory memory) =>
        (address, buffer, bytes) => memory.Read(address, new Span<byte>((void*)buffer, bytes));

    private T Bind<T>(string name)
        where T : Delegate =>
        (T)Delegate.CreateDelegate(typeof(T), _reader, _reader.GetType().GetMethod(name)!);
}
