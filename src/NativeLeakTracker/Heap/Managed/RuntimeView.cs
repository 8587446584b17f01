using System.Diagnostics.CodeAnalysis;
using System.Reflection;

namespace NativeLeaks.Heap.Managed;

/// <summary>
/// The runtime's own account of its heap (ClrMD, with the DAC that lies beside the runtime), in one frozen copy after the other. Loaded by
/// the first use, some tenths of a second. For one caller at a time.
/// </summary>
internal sealed unsafe class RuntimeView
{
    private const string Adapter = "NativeLeakTracker.RuntimeReader";

    private static RuntimeView? s_view;

    private readonly Action<Func<ulong, nint, int, int>, (ulong, string)[]> _lookAt;

    private RuntimeView(object runtime)
    {
        _lookAt = Method<Action<Func<ulong, nint, int, int>, (ulong, string)[]>>(runtime, "LookAt");
        IsWalkable = Method<Func<bool>>(runtime, nameof(IsWalkable));
        Segments = Method<Func<(ulong, ulong, int)[]>>(runtime, nameof(Segments));
        AllocationContexts = Method<Func<(ulong, ulong)[]>>(runtime, nameof(AllocationContexts));
        Handles = Method<Func<(ulong, ulong, int, ulong)[]>>(runtime, nameof(Handles));
        Threads = Method<Func<(ulong, int)[]>>(runtime, nameof(Threads));
        FreeType = Method<Func<ulong>>(runtime, nameof(FreeType));
        FinalizerQueue = Method<Func<ulong[]>>(runtime, nameof(FinalizerQueue));
        LoaderAllocatorOf = Method<Func<ulong, ulong>>(runtime, nameof(LoaderAllocatorOf));
        TypeNameOf = Method<Func<ulong, string?>>(runtime, nameof(TypeNameOf));
        FieldAt = Method<Func<ulong, int, bool, (string, int)?>>(runtime, nameof(FieldAt));
        StaticAt = Method<Func<ulong, string?>>(runtime, nameof(StaticAt));
    }

    /// <summary>Whether no collection is under way.</summary>
    public Func<bool> IsWalkable { get; }

    /// <summary>Where objects are, and a <see cref="SegmentKind"/>, by address.</summary>
    public Func<(ulong Start, ulong End, int Kind)[]> Segments { get; }

    /// <summary>Where no object is yet, by address.</summary>
    public Func<(ulong Start, ulong End)[]> AllocationContexts { get; }

    /// <summary>Slot, object, a <see cref="HandleKind"/>, and the object that a dependent handle keeps.</summary>
    public Func<(ulong Slot, ulong Object, int Kind, ulong Dependent)[]> Handles { get; }

    /// <summary>The runtime's structures for its threads, and how the kernel numbers them.</summary>
    public Func<(ulong Address, int Id)[]> Threads { get; }

    /// <summary>The type that stands in the place of objects that were swept.</summary>
    public Func<ulong> FreeType { get; }

    /// <summary>Objects whose finalizers are going to run.</summary>
    public Func<ulong[]> FinalizerQueue { get; }

    /// <summary>By an instance of a collectible type: the object that keeps its statics; 0 for others.</summary>
    public Func<ulong, ulong> LoaderAllocatorOf { get; }

    /// <summary>As the runtime spells it.</summary>
    public Func<ulong, string?> TypeNameOf { get; }

    /// <summary>The field at an offset of an object, or of its elements; and a <see cref="FieldKind"/>.</summary>
    public Func<ulong, int, bool, (string Name, int Kind)?> FieldAt { get; }

    /// <summary>The static field whose storage is at an address.</summary>
    public Func<ulong, string?> StaticAt { get; }

    /// <exception cref="HeapUnavailableException">There is no runtime that can be read; the message says why.</exception>
    /// <exception cref="TornCopyException">What is read makes no sense.</exception>
    [SuppressMessage("Design", "CA1031:Do not catch general exception types",
        Justification = "ClrMD reads memory that may be half changed, and throws what it likes.")]
    public static RuntimeView Of(FrozenMemory memory)
    {
        int Read(ulong address, nint destination, int bytes) => memory.Read(address, new Span<byte>((void*)destination, bytes));
        (ulong, string)[] images =
        [
            .. memory.Mappings
                .Where(static m => m.Offset == 0 && m.Path.StartsWith('/') && !m.Path.StartsWith("/memfd:", StringComparison.Ordinal))
                .DistinctBy(static m => m.Path)
                .Select(static m => (m.Start, m.Path)),
        ];
        if (s_view is not null)
        {
            Ask(() =>
            {
                s_view._lookAt(Read, images);
                return true;
            });
            return s_view;
        }

        object? runtime;
        try
        {
            runtime = CarriedAssemblies.Load(Adapter)
                .GetType("NativeLeaks.RuntimeReader.ManagedRuntime", throwOnError: true)!
                .GetMethod("Open")!
                .CreateDelegate<Func<Func<ulong, nint, int, int>, (ulong, string)[], object?>>()(Read, images);
        }
        catch (Exception e)
        {
            throw new HeapUnavailableException($"the .NET runtime of this process cannot be read ({e.GetType().Name}: {e.Message.Split('\n')[0]})", e);
        }

        return s_view = new RuntimeView(runtime ?? throw new HeapUnavailableException(
            "no .NET runtime was found that can be read: it is part of the program's own file, or libmscordaccore.so does not lie beside it"));
    }

    /// <exception cref="TornCopyException">Whatever goes wrong.</exception>
    [SuppressMessage("Design", "CA1031:Do not catch general exception types",
        Justification = "ClrMD reads memory that may be half changed, and throws what it likes.")]
    public static T Ask<T>(Func<T> question)
    {
        try
        {
            return question();
        }
        catch (Exception e)
        {
            throw new TornCopyException($"{e.GetType().Name}: {e.Message.Split('\n')[0]}", e);
        }
    }

    private static T Method<T>(object runtime, string name)
        where T : Delegate => runtime.GetType().GetMethod(name, BindingFlags.Public | BindingFlags.Instance)!.CreateDelegate<T>(runtime);
}
