using System.Globalization;

namespace NativeLeaks.Heap.Managed;

/// <summary>
/// The way from what keeps an object alive to the word in it that leads to native memory, as the source reads:
/// <c>static Cache.Instance -> Dictionary&lt;string, SafeStatement&gt;["q1"] -> SafeStatement.handle</c>. Collections, closures, async methods
/// and delegates read as what they are, not as what they are made of. Not thread-safe.
/// </summary>
internal sealed class HolderPaths(FrozenMemory memory, Marker marker, ObjectFields fields, StaticNames statics, RuntimeStructures structures)
{
    private const int MaxSteps = 8;
    private const int MaxKeyLength = 40;
    private const int MaxObjects = 64;
    private const int NoField = -1;
    private const int FirstElement = 2 * sizeof(ulong);

    /// <summary>Without what the word leads to.</summary>
    public string To(in ManagedHolder holder)
    {
        List<Place> way = WayTo(holder, out ManagedRoot root);
        List<string> steps = [];
        int at = StartAtRoot(root, way, steps);
        while (at < way.Count)
        {
            at = AddStep(way, at, steps);
        }

        if (steps.Count > MaxSteps)
        {
            steps.RemoveRange(MaxSteps / 2, steps.Count - MaxSteps);
            steps.Insert(MaxSteps / 2, "...");
        }

        return string.Join(" -> ", steps);
    }

    // Outermost first. Of a long list that is only linked, its ends.
    private List<Place> WayTo(in ManagedHolder holder, out ManagedRoot root)
    {
        List<int> indexes = [];
        int index = holder.Index;
        do
        {
            indexes.Add(index);
            index = marker.ParentOf(index, out root);
        }
        while (index >= 0 && indexes.Count <= marker.Count);

        indexes.Reverse();
        if (indexes.Count > MaxObjects)
        {
            indexes.RemoveRange(MaxObjects / 2, indexes.Count - MaxObjects);
        }

        List<Place> way = [];
        for (int i = 0; i < indexes.Count; i++)
        {
            ulong address = marker[indexes[i]];
            bool isLast = i == indexes.Count - 1;
            way.Add(new Place(address, isLast ? holder.Offset : fields.OffsetOf(address, marker[indexes[i + 1]])));
        }

        return way;
    }

    private int StartAtRoot(in ManagedRoot root, List<Place> way, List<string> steps)
    {
        switch (root.Kind)
        {
            case RootKind.Static:
                // Those of load contexts that can be unloaded lie one or two arrays deeper.
                for (int i = 0; i < Math.Min(way.Count, 4); i++)
                {
                    if (way[i].Offset > 0 && statics.At(way[i].Address + (ulong)way[i].Offset) is { } name)
                    {
                        steps.Add($"static {name}");
                        return i + 1;
                    }
                }

                steps.Add("static field");
                return 1;

            case RootKind.ThreadStatic when way.Count > 1 && way[0].Offset >= FirstElement && way[1].Offset >= FirstElement
                && statics.OfThread((uint)((way[0].Offset - FirstElement) / sizeof(ulong)), (ulong)way[1].Offset) is { } name:
                return AddThreadStatic(name, root.ThreadId, way, steps);

            default:
                steps.Add(root.Kind switch
                {
                    RootKind.ThreadStatic => $"thread storage of {NameOfThread(root.ThreadId)}",
                    RootKind.StrongHandle => "GCHandle (strong)",
                    RootKind.PinnedHandle => "GCHandle (pinned)",
                    RootKind.AsyncPinned => "overlapped operation",
                    RootKind.RefCounted => "GCHandle (reference counted)",
                    RootKind.FinalizerQueue => "finalizer queue",
                    _ => $"stack of {NameOfThread(root.ThreadId)}",
                });
                return 0;
        }
    }

    private int AddThreadStatic(string name, int thread, List<Place> way, List<string> steps)
    {
        // ThreadLocal<T> keeps its values in an array that each thread has.
        if (name.EndsWith(".ts_slotArray", StringComparison.Ordinal) && way.Count > 3 && fields.At(way[3].Address, way[3].Offset).Name == "_value")
        {
            string type = name[..name.LastIndexOf('.')];
            steps.Add($"{type[(type.IndexOf("ThreadLocal<", StringComparison.Ordinal) is >= 0 and var start ? start : 0)..]} of {NameOfThread(thread)}");
            return 4;
        }

        steps.Add($"[ThreadStatic] {name} of {NameOfThread(thread)}");
        return 2;
    }

    private string NameOfThread(int id) =>
        memory.Threads.Any(t => t.Id == id && t.IsCaller) ? "this thread" : string.Create(CultureInfo.InvariantCulture, $"thread {id}");

    /// <summary>Adds what stands for the object, and for those inside it that are no steps of their own. Returns the next one.</summary>
    private int AddStep(List<Place> way, int at, List<string> steps)
    {
        (ulong address, long offset) = way[at];
        if (offset == NoField)
        {
            // A dependent handle, or the loader allocator of the object's type.
            bool isLoader = at + 1 < way.Count && fields.RawNameOf(way[at + 1].Address) == "System.Reflection.LoaderAllocator";
            steps.Add(isLoader ? fields.NameOf(address) : $"ConditionalWeakTable[{fields.NameOf(address)}]");
            return at + 1;
        }

        if (fields.TryFindElement(address, offset, out long index, out int place))
        {
            AddElement(way, at, index, place, steps);
            return at + 1;
        }

        string field = fields.At(address, offset).Name;
        string raw = fields.RawNameOf(address);
        if (AddCollection(way, at, field, raw, steps) is > 0 and var next)
        {
            return next;
        }

        if (MemberNames.IsOuterClosure(field))
        {
            return at + 1;
        }

        steps.Add(MemberNames.IsClosure(raw) ? OfClosure(address, raw, field)
            : MemberNames.OfStateMachine(raw) is { } machine ? OfStateMachine(machine, field)
            : field is "_target" or "_invocationList" or "_methodBase" && IsDelegate(address) ? fields.NameOf(address)
            : IsBox(raw) ? $"boxed {fields.NameOf(address)}"
            : $"{fields.NameOf(address)}.{MemberNames.OfField(field)}");
        return field switch
        {
            "_target" when IsDelegate(address) => AddTarget(way, at, steps),
            "_invocationList" when IsDelegate(address) => at + 2,
            _ => at + 1,
        };
    }

    // Behind the field that leads to the array, as the source has it.
    private void AddElement(List<Place> way, int at, long index, int place, List<string> steps)
    {
        string inside = fields.At(way[at].Address, place).Name;
        string text = string.Create(CultureInfo.InvariantCulture, $"[{index}]") + (inside.Length > 0 ? "." + MemberNames.OfField(inside) : "");
        bool hasField = at > 0 && steps.Count > 0 && way[at - 1].Offset != NoField
            && !steps[^1].StartsWith("GCHandle", StringComparison.Ordinal) && !steps[^1].StartsWith("stack of", StringComparison.Ordinal);
        if (hasField)
        {
            steps[^1] += text;
        }
        else
        {
            steps.Add(fields.NameOf(way[at].Address) + text);
        }
    }

    /// <summary>A collection together with the array inside it. Returns the next object; 0: it is no collection.</summary>
    private int AddCollection(List<Place> way, int at, string field, string raw, List<string> steps)
    {
        ulong address = way[at].Address;
        bool hasNext = at + 1 < way.Count;
        if (!hasNext || !raw.StartsWith("System.", StringComparison.Ordinal))
        {
            return 0;
        }

        (ulong inner, long offset) = way[at + 1];
        bool isElement = offset != NoField && fields.TryFindElement(inner, offset, out _, out _);
        switch (field)
        {
            case "_items" or "_array" when isElement:
                fields.TryFindElement(inner, offset, out long index, out int place);
                steps.Add(string.Create(CultureInfo.InvariantCulture, $"{fields.NameOf(address)}[{index}]") + Inside(fields.At(inner, place).Name, ""));
                return at + 2;
            case "_entries" when isElement:
                fields.TryFindElement(inner, offset, out long entry, out int inEntry);
                string part = fields.At(inner, inEntry).Name;
                string key = fields.KeyText(inner, fields.OffsetOfElement(inner, entry), "key", MaxKeyLength) ?? "...";
                steps.Add(fields.NameOf(address) + (
                    part == "key" || part.StartsWith("key.", StringComparison.Ordinal) ? ".Keys"
                    : fields.Of(inner).Any(static f => f.Name == "Value") ? Inside(part, "Value") // a set
                    : $"[{key}]{Inside(part, "value")}"));
                return at + 2;
            case "_tables":
                return AddConcurrent(way, at, steps);
            case "_linkedSlot" when raw.StartsWith("System.Threading.ThreadLocal<", StringComparison.Ordinal):
                return AddThreadLocal(way, at, steps);
            case "_value" when raw.StartsWith("System.Lazy<", StringComparison.Ordinal):
                steps.Add($"{fields.NameOf(address)}.Value");
                return at + 1;
            default:
                return 0;
        }
    }

    // The values of all threads, linked.
    private int AddThreadLocal(List<Place> way, int at, List<string> steps)
    {
        int slot = at + 1;
        while (slot < way.Count && !(way[slot].Offset != NoField && fields.At(way[slot].Address, way[slot].Offset).Name == "_value"))
        {
            slot++;
        }

        steps.Add($"{fields.NameOf(way[at].Address)}.Value");
        return Math.Min(slot, way.Count - 1) + 1;
    }

    // ConcurrentDictionary: tables, an array of them, and nodes that are linked.
    private int AddConcurrent(List<Place> way, int at, List<string> steps)
    {
        int node = at + 1;
        while (node < way.Count && !IsNode(way[node]))
        {
            node++;
        }

        if (node == way.Count)
        {
            return 0;
        }

        string key = fields.KeyText(way[node].Address, 0, "_key", MaxKeyLength) ?? "";
        string part = fields.At(way[node].Address, way[node].Offset).Name;
        steps.Add($"{fields.NameOf(way[at].Address)}{(key.Length > 0 ? $"[{key}]" : "")}{Inside(part, "_value")}");
        return node + 1;
    }

    private bool IsNode(in Place place) =>
        place.Offset != NoField && fields.RawNameOf(place.Address).EndsWith("+Node", StringComparison.Ordinal)
        && fields.At(place.Address, place.Offset).Name != "_next";

    private static string Inside(string field, string self) =>
        field == self ? "" : "." + MemberNames.OfField(field.StartsWith(self + ".", StringComparison.Ordinal) ? field[(self.Length + 1)..] : field);

    private string OfClosure(ulong address, string raw, string field)
    {
        ulong type = fields.TypeOf(address);
        string? method = MemberNames.MethodOfClosure(structures.Ask(() => structures.MethodNames(type)));
        string outer = ShortOf(MemberNames.OuterOf(raw));
        return $"lambda of {outer}{(method is null ? "" : "." + method)}: {MemberNames.OfField(field)}";
    }

    private static string OfStateMachine((string Type, string Method) machine, string field)
    {
        string method = $"{ShortOf(machine.Type)}.{machine.Method}()";
        string name = field.StartsWith("StateMachine.", StringComparison.Ordinal) ? field["StateMachine.".Length..] : field;
        return name.StartsWith("<>t__builder", StringComparison.Ordinal) || (name == field && name.StartsWith("m_", StringComparison.Ordinal))
            ? $"task of {method}"
            : $"local {MemberNames.OfField(name)} of {method}";
    }

    private bool IsDelegate(ulong address) => fields.Of(address).Any(static f => f.Name == "_methodPtrAux");

    private static bool IsBox(string raw) => raw is "System.IntPtr" or "System.UIntPtr" or "System.Int64" or "System.UInt64";

    // The method that is called stands between the delegate and the object that it is called on; a closure names its method itself.
    private int AddTarget(List<Place> way, int at, List<string> steps)
    {
        if (at + 1 < way.Count && !MemberNames.IsClosure(fields.RawNameOf(way[at + 1].Address)))
        {
            ulong code = fields.Word(way[at].Address, "_methodPtr");
            string method = structures.Ask(() => structures.MethodAt(code));
            int end = method.IndexOf('(', StringComparison.Ordinal);
            if (end > 0 && method.LastIndexOf('.', end - 1) is > 0 and var dot)
            {
                steps.Add($"{ShortOf(method[..dot])}{method[dot..end]}");
            }
        }

        return at + 1;
    }

    private static string ShortOf(string type) => type[(type.LastIndexOfAny(['.', '+']) + 1)..];

    /// <summary>An object on the way, and where in it the way goes on; <see cref="NoField"/>: by no field.</summary>
    private readonly record struct Place(ulong Address, long Offset);
}
