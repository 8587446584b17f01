using Microsoft.Diagnostics.Runtime;
using Microsoft.Diagnostics.Runtime.AbstractDac;
using NativeLeaks.Attach;
using NativeLeaks.Heap.Managed;
using DacFieldKind = Microsoft.Diagnostics.Runtime.AbstractDac.FieldKind;
using Field = (int Offset, int Bytes, int Kind, string Name);

namespace NativeLeaks.RuntimeReader;

/// <summary>
/// Answers questions about the runtime of a process that stands still. Not thread-safe. What is read may be damaged: any
/// method may throw anything but what would end the process.
/// </summary>
/// <remarks>
/// ClrMD's ClrRuntime remembers across a flush whether a collection was under way, and makes an object of its own for each type that
/// it meets. So the layer below it is used, and made anew for each copy.
/// </remarks>
public sealed class Reader : IDisposable
{
    private const int MaxThreads = 1 << 16;
    private const int MaxModules = 1 << 16;
    private const int MaxDomains = 16;

    private readonly CopiedMemory _memory;
    private readonly DataTarget _target;
    private readonly ClrInfo _version;
    private readonly string _readerPath;

    private IServiceProvider? _services;

    // Of the runtime, wherever it is: the same in each copy. 0: not found.
    private ulong? _heapCountAt;

    /// <summary>Finds the runtime.</summary>
    /// <param name="runtimeAddress">Where libcoreclr.so begins.</param>
    /// <param name="runtimePath">Its file.</param>
    /// <param name="readerPath">The file of its reader, libmscordaccore.so, which is loaded from there.</param>
    /// <param name="processId">What is read.</param>
    /// <param name="read">Reads from an address into a buffer of so many bytes, and says how many were there. Must not throw.</param>
    public Reader(ulong runtimeAddress, string runtimePath, string readerPath, int processId, Func<ulong, nint, int, int> read)
    {
        _readerPath = readerPath;
        _memory = new CopiedMemory(runtimeAddress, runtimePath) { Source = read, ProcessId = processId };
        _target = new DataTarget(_memory, new DataTargetOptions { FileLocator = new LocalFilesOnly(), SymbolPaths = [] });
        try
        {
            _version = _target.ClrVersions.Length > 0
                ? _target.ClrVersions[0]
                : throw new InvalidDataException("There is no runtime at the given address.");
            PointAt(processId, read);
        }
        catch
        {
            _target.Dispose();
            throw;
        }
    }

    private IAbstractRuntime Runtime => Service<IAbstractRuntime>();

    private IAbstractHeap Heap => Service<IAbstractHeap>();

    private IAbstractTypeHelpers Types => Service<IAbstractTypeHelpers>();

    private IAbstractModuleHelpers ModuleHelpers => Service<IAbstractModuleHelpers>();

    private IAbstractMethodLocator Methods => Service<IAbstractMethodLocator>();

    /// <summary>Reads another copy from now on.</summary>
    public void PointAt(int processId, Func<ulong, nint, int, int> read)
    {
        Release();
        _memory.ProcessId = processId;
        _memory.Source = read;
        _services = ReadAnew();
    }

    /// <summary>Lets go of the copy.</summary>
    public void Release()
    {
        IServiceProvider? services = _services;
        _services = null;
        (services as IDisposable)?.Dispose();
        _memory.Source = null;
    }

    /// <summary>Where the runtime describes its structures; 0 when it does not.</summary>
    public ulong ContractDescriptor() => _version.ContractDescriptorAddress;

    /// <summary>False: a collection is under way.</summary>
    public bool IsWalkable() => Heap.State.AreGCStructuresValid;

    /// <summary>Whether there is a heap for each processor, whose handles the runtime's reader may not all find.</summary>
    public bool IsServer() => Heap.State.Kind == Microsoft.Diagnostics.Runtime.AbstractDac.GCKind.Server;

    /// <summary>Start, end and kind of each part of the heap that may hold objects.</summary>
    public (ulong Start, ulong End, int Kind)[] Segments() =>
    [
        .. Heap.EnumerateSubHeaps().SelectMany(static heap => heap.Segments).DistinctBy(static segment => segment.Address)
            .Select(static segment => (segment.ObjectRange.Start, segment.ObjectRange.End, (int)(segment.Kind switch
            {
                GCSegmentKind.Large => SegmentKind.Large,
                GCSegmentKind.Pinned => SegmentKind.Pinned,
                GCSegmentKind.Frozen => SegmentKind.Frozen,
                _ => SegmentKind.Ordinary,
            }))),
    ];

    /// <summary>Address space that is the collector's.</summary>
    public (ulong Start, ulong End)[] Reserved()
    {
        SubHeapInfo[] heaps = [.. Heap.EnumerateSubHeaps()];
        SegmentInfo[] segments = [.. heaps.SelectMany(static heap => heap.Segments)];
        IEnumerable<SegmentInfo> apart = segments.Where(segment => segment.Kind == GCSegmentKind.Frozen || !heaps[0].HasRegions);
        SegmentInfo[] together = [.. segments.Except(apart)];
        return
        [
            .. apart.Select(static segment => (segment.ReservedMemory.Start, segment.ReservedMemory.End)),

            // Regions are parts of one reservation, between which nothing lies but parts that are free.
            .. together.Length == 0
                ? Array.Empty<(ulong, ulong)>()
                : [(together.Min(static s => s.CommittedMemory.Start), together.Max(static s => s.ReservedMemory.End))],
        ];
    }

    /// <summary>The pieces of the heap that threads have for themselves: from the next object on, to the end.</summary>
    public (ulong Next, ulong End)[] AllocationContexts() =>
    [
        // The first list leaves out those that are full; there is a gap behind them too.
        .. Heap.EnumerateThreadAllocationContexts()
            .Concat(Runtime.EnumerateThreads(MaxThreads).Select(static thread => thread.AllocationContext))
            .Concat(Heap.EnumerateSubHeaps().Where(static heap => heap.EphemeralAllocContextPointer <= heap.EphemeralAllocContextLimit)
                .Select(static heap => new MemoryRange(heap.EphemeralAllocContextPointer, heap.EphemeralAllocContextLimit)))
            .Where(static range => range.Start != 0)
            .Select(static range => (range.Start, range.End))
            .Distinct(),
    ];

    /// <summary>All handles; the second object is that of a dependent one, 0 of any other.</summary>
    public (ulong Slot, ulong Object, int Kind, ulong Second)[] Handles()
    {
        if (Heap.State.Kind != Microsoft.Diagnostics.Runtime.AbstractDac.GCKind.Server)
        {
            return Handles(Runtime);
        }

        // Tables are made for each processor that the process may run on; there are never more heaps.
        _heapCountAt ??= HeapCount.Find(_memory, ReadAnew);
        using (_memory.Pretend(_heapCountAt.Value, Math.Max(Environment.ProcessorCount, Heap.State.HeapCount)))
        {
            IServiceProvider services = ReadAnew();
            try
            {
                return Handles((IAbstractRuntime?)services.GetService(typeof(IAbstractRuntime)) ?? throw new InvalidDataException("The runtime is not ready."));
            }
            finally
            {
                (services as IDisposable)?.Dispose();
            }
        }
    }

    private static (ulong Slot, ulong Object, int Kind, ulong Second)[] Handles(IAbstractRuntime runtime) =>
    [
        .. runtime.EnumerateHandles()
            .Where(static handle => handle.Object != 0)
            .Where(static handle => handle.Kind != ClrHandleKind.RefCounted || handle.RefCount > 0)
            .Select(static handle => (handle.Address, handle.Object, (int)handle.Kind, handle.DependentTarget)),
    ];

    /// <summary>From where to where it stands which objects wait for their finalizer to be run.</summary>
    public (ulong Start, ulong End)[] FinalizerQueue() =>
    [
        // The collector's lists by generation, of which the last two are these; with regions there is one more.
        .. Heap.EnumerateSubHeaps().Select(static heap => heap.FinalizationPointers).Where(static list => list.Length >= 6)
            .Select(static list => list.Length == 6 ? (list[3], list[5]) : (list[4], list[6])),
    ];

    /// <summary>Managed threads: the runtime's structure, the number that .NET gives, that of the kernel.</summary>
    public (ulong Address, int ManagedId, int Id)[] Threads() =>
        [.. Runtime.EnumerateThreads(MaxThreads).Select(static thread => (thread.Address, thread.ManagedThreadId, (int)thread.OSThreadId))];

    /// <summary>The runtime's structures of all modules.</summary>
    public ulong[] Modules() =>
        [.. Runtime.EnumerateAppDomains(MaxDomains).SelectMany(domain => Runtime.GetModuleList(domain.Address, MaxModules)).Distinct()];

    /// <summary>The handle that leads to the object that keeps a collectible type's assembly loaded; 0 of any other type.</summary>
    public ulong LoaderAllocatorHandle(ulong methodTable) => Types.GetLoaderAllocatorHandle(methodTable);

    /// <summary>A type's name as C# writes it, without its namespace and the types around it.</summary>
    public string TypeName(ulong methodTable) => TypeTexts.Short(RawTypeName(methodTable));

    /// <summary>A type's name as C# writes it, with its namespace and the types around it.</summary>
    public string FullTypeName(ulong methodTable) => TypeTexts.Full(RawTypeName(methodTable));

    /// <summary>A type's name as the runtime spells it.</summary>
    public string RawTypeName(ulong methodTable) =>
        Types.GetTypeInfo(methodTable, out TypeInfo type) ? Types.GetTypeName(type.ModuleAddress, methodTable, type.MetadataToken) ?? "" : "";

    /// <summary>
    /// The fields of an object, or of an element of the array that it is, by their offsets from the first byte of the object or the
    /// element; structures are resolved into their fields.
    /// </summary>
    public Field[] Fields(ulong address, ulong methodTable) =>
        !Types.GetTypeInfo(methodTable, out TypeInfo type) ? throw new InvalidDataException("There is no such type.")
        : type.ComponentSize == 0 ? FieldLayout.OfObject(Types, ModuleHelpers, methodTable)
        : Types.GetObjectArrayInformation(address, out ObjectArrayInformation array)
            ? FieldLayout.OfElement(Types, ModuleHelpers, in array, type.ComponentSize)
            : throw new InvalidDataException("There is no such array.");

    /// <summary>The static fields of a type, by their offsets in the storage that is theirs.</summary>
    public (int Offset, bool IsThreads, bool IsReference, string Name)[] StaticFields(ulong methodTable)
    {
        if (!Types.GetTypeInfo(methodTable, out TypeInfo type))
        {
            return [];
        }

        int inherited = FieldLayout.InstanceFields(Types, type.ParentMethodTable).Count;
        return
        [
            .. Types.EnumerateFields(type, inherited)
                .Where(static field => field.Kind is DacFieldKind.Static
                    or DacFieldKind.ThreadStatic)
                .Select(field => (
                    field.Offset,
                    field.Kind == DacFieldKind.ThreadStatic,
                    // Structures lie in boxes, to which there is a reference.
                    FieldLayout.IsReference(field.ElementType) || field.ElementType == ClrElementType.Struct,
                    FieldLayout.NameOf(ModuleHelpers, type.ModuleAddress, field.Token))),
        ];
    }

    /// <summary>The methods of a type as the runtime spells them, with their types and parameters.</summary>
    public string[] MethodNames(ulong methodTable) =>
        [.. Types.EnumerateMethodsForType(methodTable).Select(method => Types.GetMethodSignature(method.MethodDesc) ?? "")];

    /// <summary>The method that lies at an address or is called by way of it, as the runtime spells it; empty when there is none.</summary>
    public string MethodAt(ulong address) =>
        Methods.GetMethodHandleByInstructionPointer(address) is var method and not 0 ? Types.GetMethodSignature(method) ?? "" : "";

    /// <inheritdoc/>
    public void Dispose()
    {
        Release();
        _target.Dispose();
    }

    private IServiceProvider ReadAnew() => DataTarget.CreateDacServices(_version, _readerPath);

    private T Service<T>()
        where T : class =>
        (T?)_services?.GetService(typeof(T)) ?? throw new InvalidDataException("The runtime is not ready.");
}
