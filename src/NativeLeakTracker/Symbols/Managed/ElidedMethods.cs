namespace NativeLeaks.Symbols.Managed;

/// <summary>A method that ran between two frames without a frame of its own.</summary>
/// <param name="Method">The method.</param>
/// <param name="IlOffset">Where in its IL the call stands that led on; -1 for native code, which has no IL.</param>
internal readonly record struct ElidedMethod(MethodKey Method, int IlOffset);

/// <summary>
/// Puts back the methods that the JIT inlined or left by a jump, and the declarations of P/Invokes, which have no frames of
/// their own. What a frame's statement calls is read from its IL. If that is the method of the next inner frame, nothing is
/// missing. Otherwise there must be exactly one chain of calls that leads to it, or nothing is put back: no frame is invented.
/// </summary>
internal sealed class ElidedMethods(MethodReferences references)
{
    private const int MaxDepth = 4;
    private const int MaxMethods = 200;

    // The JIT's own limit for what it inlines by a profile (dotnet/runtime: jitconfigvalues.h, JitExtDefaultPolicyMaxILProf).
    private const int MaxIlBytes = 1024;

    /// <summary>The methods between a frame and the managed one that it led to, innermost first.</summary>
    public IReadOnlyList<ElidedMethod> Between(MethodKey caller, IlRange il, MethodKey callee) =>
        Guarded(() => FindBetween(caller, il, callee));

    private List<ElidedMethod> FindBetween(MethodKey caller, IlRange il, MethodKey callee)
    {
        IReadOnlyList<(IlCall Call, MethodKey? Target)> all = references.CallsIn(caller);
        List<(IlCall Call, MethodKey? Target)> statement = CallsOf(all, il);
        if (statement.Count == 0 || statement.Exists(call => MayLeadTo(call, callee)))
        {
            return [];
        }

        // A call of it elsewhere in the method: the map of optimised code may be off by a statement, and then nothing is missing.
        return all.Any(call => call.Target == callee) ? [] : Search(statement, target => target == callee, includeLast: false);
    }

    /// <summary>
    /// The methods between a frame and native code that it led to, innermost first: the P/Invoke's declaration, and those
    /// through which it was reached.
    /// </summary>
    /// <param name="caller">The method of the frame.</param>
    /// <param name="il">Where it stands.</param>
    /// <param name="function">Name of the native function that was called, to choose among several declarations; null when it
    /// is not known.</param>
    public IReadOnlyList<ElidedMethod> BeforeNative(MethodKey caller, IlRange il, string? function) =>
        Guarded(() => FindBeforeNative(caller, il, function));

    private List<ElidedMethod> FindBeforeNative(MethodKey caller, IlRange il, string? function)
    {
        List<(IlCall Call, MethodKey? Target)> statement = CallsOf(references.CallsIn(caller), il);
        List<ElidedMethod> named = function is null
            ? []
            : Search(statement, target => target.IsImport && target.Import.EntryPoint == function, includeLast: true);
        bool mayBeAny = named.Count == 0 && statement.Exists(static call => call.Target is null or { IsDelegateCall: true });
        return named.Count > 0 || mayBeAny ? named : Search(statement, static target => target.IsImport, includeLast: true);
    }

    /// <summary>What a damaged file says of its methods proves nothing.</summary>
    private static List<ElidedMethod> Guarded(Func<List<ElidedMethod>> find)
    {
        try
        {
            return find();
        }
        catch (Exception e) when (AssemblyFile.IsDamage(e))
        {
            return [];
        }
    }

    private static List<(IlCall Call, MethodKey? Target)> CallsOf(IReadOnlyList<(IlCall Call, MethodKey? Target)> all, IlRange il) =>
        il.Offset < 0 ? [] : [.. all.Where(call => call.Call.Offset >= il.Offset && call.Call.Offset < il.End)];

    /// <summary>Directly, by an override, through a delegate or a pointer.</summary>
    private static bool MayLeadTo((IlCall Call, MethodKey? Target) call, MethodKey callee) =>
        call.Target is not { } target || target == callee || target.IsDelegateCall ||
        (call.Call.Kind == IlCallKind.Virtual && target.MayBeOverridden && IsNamed(callee.Name, target.Name));

    // An explicit implementation is called Interface.Method.
    private static bool IsNamed(string method, string wanted) =>
        method == wanted || (method.Length > wanted.Length && method.EndsWith(wanted, StringComparison.Ordinal) && method[^(wanted.Length + 1)] == '.');

    /// <summary>
    /// Breadth first. There must be one chain of the shortest length, and none of the next length that begins otherwise.
    /// </summary>
    private List<ElidedMethod> Search(
        List<(IlCall Call, MethodKey? Target)> statement, Predicate<MethodKey> isWanted, bool includeLast)
    {
        List<Link> level = [.. Targets(statement, null)];
        Link? found = null;
        int looked = 0;
        for (int depth = 0; depth < MaxDepth && level.Count > 0; depth++)
        {
            foreach (Link link in level.FindAll(link => isWanted(link.Method)))
            {
                if (found is not null && !(found.Depth < link.Depth ? found.HasSameRoot(link) : found.IsSameChain(link)))
                {
                    return [];
                }

                found ??= link;
            }

            if (found is not null && found.Depth < depth)
            {
                break;
            }

            List<Link> next = [];
            foreach (Link link in level.Where(static link => !link.Method.IsImport && link.Method != default))
            {
                if (++looked > MaxMethods)
                {
                    return [];
                }

                if (link.Method.Assembly.IlOf(link.Method.Row).Length <= MaxIlBytes)
                {
                    next.AddRange(Targets(references.CallsIn(link.Method), link));
                }
            }

            level = next;
        }

        return found is null ? [] : found.ToList(includeLast);
    }

    /// <summary>What is called for certain, from a method that can have no frame there: inlined, or left by a jump.</summary>
    private static IEnumerable<Link> Targets(IEnumerable<(IlCall Call, MethodKey? Target)> calls, Link? caller)
    {
        bool mustJump = caller is not null && caller.Method.IsNeverInlined;
        foreach ((IlCall call, MethodKey? target) in calls)
        {
            bool isCertain = target is { } method && (call.Kind == IlCallKind.Direct || !method.MayBeOverridden) && !method.IsDelegateCall;
            if (isCertain && (call.IsLast || !mustJump) && !IsIn(caller, target!.Value))
            {
                yield return new Link(target.Value, call.Offset, caller);
            }
        }
    }

    private static bool IsIn(Link? chain, MethodKey method)
    {
        for (Link? link = chain; link is not null; link = link.Caller)
        {
            if (link.Method == method)
            {
                return true;
            }
        }

        return false;
    }

    /// <param name="Method">A method that is called.</param>
    /// <param name="CallOffset">Where in the caller's IL.</param>
    /// <param name="Caller">By whom; null: by the frame's own statement.</param>
    private sealed record Link(MethodKey Method, int CallOffset, Link? Caller)
    {
        public int Depth { get; } = Caller is null ? 0 : Caller.Depth + 1;

        public bool HasSameRoot(Link other) => Root == other.Root;

        private MethodKey Root => Caller?.Root ?? Method;

        public bool IsSameChain(Link other) =>
            Method == other.Method && (Caller is null ? other.Caller is null : other.Caller is not null && Caller.IsSameChain(other.Caller));

        public List<ElidedMethod> ToList(bool includeThis)
        {
            List<ElidedMethod> list = includeThis ? [new ElidedMethod(Method, -1)] : [];
            for (Link link = this; link.Caller is { } caller; link = caller)
            {
                list.Add(new ElidedMethod(caller.Method, link.CallOffset));
            }

            return list;
        }
    }
}
