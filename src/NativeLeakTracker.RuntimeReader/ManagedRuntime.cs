using Microsoft.Diagnostics.Runtime;
using NativeLeaks.Heap.Managed;

namespace NativeLeaks.RuntimeReader;

/// <summary>
/// What the runtime says of its heap in a frozen copy. Made once in a process and pointed at one copy after the other, because the start takes a
/// tenth of a second. For one caller at a time. What is read may be half changed or damaged: any method may throw anything.
/// </summary>
public sealed class ManagedRuntime
{
    private readonly CopiedProcess _process;
    private readonly ClrRuntime _runtime;
    private List<(ulong Address, string Name, int ThreadId)>? _statics;

    private ManagedRuntime(CopiedProcess process, ClrRuntime runtime) => (_process, _runtime) = (process, runtime);

    /// <summary>Null: there is no runtime in the process that ClrMD can read.</summary>
    public static object? Open(Func<ulong, nint, int, int> read, (ulong Start, string Path)[] images)
    {
        var process = new CopiedProcess();
        process.LookAt(read, images);
        var target = new DataTarget(process, new DataTargetOptions { FileLocator = new Attach.LocalFilesOnly(), SymbolPaths = [] });
        return target.ClrVersions is [var version, ..] ? new ManagedRuntime(process, version.CreateRuntime()) : null;
    }

    /// <summary>Looks at another copy from now on.</summary>
    public void LookAt(Func<ulong, nint, int, int> read, (ulong Start, string Path)[] images)
    {
        _process.LookAt(read, images);
        _runtime.FlushCachedData();
        _statics = null;
    }

    /// <summary>Whether no collection is under way.</summary>
    public bool IsWalkable() => _runtime.Heap.CanWalkHeap;

    /// <summary>Where objects are; the kind is a <see cref="SegmentKind"/>. By address.</summary>
    public (ulong Start, ulong End, int Kind)[] Segments() =>
    [
        .. _runtime.Heap.Segments
            .Select(static s => (s.ObjectRange.Start, s.ObjectRange.End, (int)KindOf(s.Kind)))
            .OrderBy(static s => s.Start),
    ];

    /// <summary>Where the next objects are going to be: no object is there.</summary>
    public (ulong Start, ulong End)[] AllocationContexts() =>
        [.. _runtime.Heap.EnumerateAllocationContexts().Select(static c => (c.Start, c.End)).OrderBy(static c => c.Start)];

    /// <summary>The kind is a <see cref="HandleKind"/>; of a dependent one with the object that it keeps.</summary>
    public (ulong Slot, ulong Object, int Kind, ulong Dependent)[] Handles() =>
        [.. _runtime.EnumerateHandles().Select(static h => (h.Address, h.Object.Address, (int)KindOf(h.HandleKind), h.Dependent.Address))];

    /// <summary>What stands in the place of objects that were swept.</summary>
    public ulong FreeType() => _runtime.Heap.FreeType.MethodTable;

    /// <summary>The runtime's structures for its threads, and how the kernel numbers them.</summary>
    public (ulong Address, int Id)[] Threads() => [.. _runtime.Threads.Select(static t => (t.Address, (int)t.OSThreadId))];

    /// <summary>Objects whose finalizers are going to run.</summary>
    public ulong[] FinalizerQueue() => [.. _runtime.Heap.EnumerateFinalizerRoots().Select(static r => r.Object.Address)];

    /// <summary>Of a collectible type: the object that keeps its statics. 0 for others.</summary>
    public ulong LoaderAllocatorOf(ulong instance) =>
        _runtime.Heap.GetObjectType(instance) is { IsCollectible: true } type && type.LoaderAllocatorHandle != 0
            ? _process.ReadPointer(type.LoaderAllocatorHandle)
            : 0;

    /// <summary>As the runtime spells it; null where it is not known.</summary>
    public string? TypeNameOf(ulong instance) => _runtime.Heap.GetObjectType(instance)?.Name;

    /// <summary>
    /// The field at an offset from the object's start, or from an array's element; through structs, their fields joined by dots. The kind is a
    /// <see cref="FieldKind"/>. An empty name: the element, or the boxed value, itself. Null: there is none.
    /// </summary>
    public (string Name, int Kind)? FieldAt(ulong instance, int offset, bool isInElement)
    {
        ClrType? type = _runtime.Heap.GetObjectType(instance);
        if (type is null)
        {
            return null;
        }

        if (isInElement)
        {
            return type.ComponentType is not { } element ? null
                : element.IsValueType && !element.IsPrimitive ? FieldIn(element, offset, "", 0)
                : offset == 0 ? ("", (int)KindOf(element.ElementType)) : null;
        }

        return type.IsPrimitive || type.IsPointer
            ? offset == sizeof(ulong) ? ("", (int)KindOf(type.ElementType)) : null
            : FieldIn(type, offset - sizeof(ulong), "", 0);
    }

    /// <summary>Static fields and thread statics by the address of their storage; those of generic types are missing. Costs tenths of a
    /// second.</summary>
    public string? StaticAt(ulong address)
    {
        _statics ??= [.. ReadStatics()];
        foreach ((ulong at, string name, int thread) in _statics)
        {
            if (at == address)
            {
                return thread == 0 ? $"static {name}" : $"[ThreadStatic] {name} of thread {thread}";
            }
        }

        return null;
    }

    private static (string Name, int Kind)? FieldIn(ClrType type, int offset, string prefix, int depth)
    {
        const int MaxDepth = 16;
        foreach (ClrInstanceField field in type.Fields)
        {
            if (field.Offset == offset && !field.IsValueType)
            {
                return (prefix + field.Name, (int)KindOf(field.ElementType));
            }

            if (field.Offset == offset && field.IsPrimitive)
            {
                return (prefix + field.Name, (int)KindOf(field.ElementType));
            }

            // A struct, which may be nothing but a pointer.
            if (field.IsValueType && !field.IsPrimitive && offset >= field.Offset && offset < field.Offset + Math.Max(field.Size, 1) &&
                depth < MaxDepth && field.Type is { } inner)
            {
                return FieldIn(inner, offset - field.Offset, prefix + field.Name + ".", depth + 1);
            }
        }

        return null;
    }

    private IEnumerable<(ulong Address, string Name, int ThreadId)> ReadStatics()
    {
        foreach (ClrType type in _runtime.EnumerateModules().SelectMany(static m => m.EnumerateTypesWithStaticFields()))
        {
            foreach (ClrStaticField field in type.StaticFields)
            {
                foreach (ClrAppDomain domain in _runtime.AppDomains)
                {
                    if (field.GetAddress(domain) is not 0 and var address)
                    {
                        yield return (address, $"{type.Name}.{field.Name}", 0);
                    }
                }
            }

            foreach (ClrThreadStaticField field in type.ThreadStaticFields)
            {
                foreach (ClrThread thread in _runtime.Threads)
                {
                    if (field.GetAddress(thread) is not 0 and var address)
                    {
                        yield return (address, $"{type.Name}.{field.Name}", (int)thread.OSThreadId);
                    }
                }
            }
        }
    }

    private static SegmentKind KindOf(GCSegmentKind kind) => kind switch
    {
        GCSegmentKind.Large => SegmentKind.Large,
        GCSegmentKind.Pinned => SegmentKind.Pinned,
        GCSegmentKind.Frozen => SegmentKind.Frozen,
        _ => SegmentKind.Generations,
    };

    private static HandleKind KindOf(ClrHandleKind kind) => kind switch
    {
        ClrHandleKind.WeakShort or ClrHandleKind.WeakLong or ClrHandleKind.WeakWinRT => HandleKind.Weak,
        ClrHandleKind.Pinned or ClrHandleKind.AsyncPinned => HandleKind.Pinned,
        ClrHandleKind.Dependent => HandleKind.Dependent,
        _ => HandleKind.Strong,
    };

    private static FieldKind KindOf(ClrElementType type) => type switch
    {
        ClrElementType.NativeInt or ClrElementType.NativeUInt or ClrElementType.Pointer or ClrElementType.FunctionPointer or
            ClrElementType.Int64 or ClrElementType.UInt64 => FieldKind.Pointer,
        ClrElementType.String or ClrElementType.Class or ClrElementType.Object or ClrElementType.Array or ClrElementType.SZArray =>
            FieldKind.Reference,
        _ => FieldKind.Data,
    };
}
