namespace NativeLeaks.Heap;

/// <summary>Where a pointer to a native node was found that no node holds.</summary>
/// <param name="Kind">What holds it.</param>
/// <param name="Address">Of the word; of a register, its number in <see cref="FrozenThread.Registers"/>.</param>
/// <param name="ThreadId">Of a stack, a register or thread storage; else 0.</param>
/// <param name="Managed">The object that the word is part of; null for a word of native memory.</param>
internal sealed record HolderRoot(HolderKind Kind, ulong Address, int ThreadId = 0, Managed.ManagedHolder? Managed = null)
{
    /// <summary>The word is no memory but a register.</summary>
    public bool IsRegister { get; init; }
}

/// <summary>
/// Which native memory can be reached, from what, and on which way: from the roots that it is told, strongest first, and from each
/// node that was reached by every aligned word in it. For one copy; for one caller at a time.
/// </summary>
/// <param name="nodes">Where pointers may lead to.</param>
/// <param name="words">The memory.</param>
/// <param name="nothing">Words there hold nothing: an allocator's bookkeeping, the tracker's memory.</param>
internal sealed class HolderSearch(NativeNodes nodes, FrozenWords words, AddressRanges nothing)
{
    private readonly PointerTargets _targets = nodes.Targets;
    private readonly HolderKind[] _kinds = new HolderKind[nodes.Count];
    private readonly Link[] _links = new Link[nodes.Count];
    private readonly List<HolderRoot> _roots = [];
    private readonly Queue<int> _reached = new();
    private readonly bool[] _isAside = new bool[nodes.Count];

    /// <summary>What holds a node.</summary>
    public HolderKind KindOf(int node) => _kinds[node];

    /// <summary>The node that holds this one, and the address of the word in it; null when a root does.</summary>
    public (int Node, ulong Address)? HolderOf(int node) =>
        _links[node] is { Node: >= 0 } link ? (link.Node, link.Address) : null;

    /// <summary>The root that holds this one; null when a node does.</summary>
    public HolderRoot? RootOf(int node) => _kinds[node] != HolderKind.None && _links[node] is { Node: < 0 } link ? _roots[~link.Node] : null;

    /// <summary>The node is nobody's of the program from now on: it holds nothing.</summary>
    /// <returns>False: it was already, or it was reached.</returns>
    public bool TrySetAside(int node)
    {
        bool isNew = !_isAside[node] && _kinds[node] == HolderKind.None;
        _isAside[node] |= isNew;
        return isNew;
    }

    /// <summary>
    /// What can be reached from a range, or from nodes that were set aside, and was not reached before, is set aside as well, unless it is
    /// to be judged.
    /// </summary>
    /// <param name="ranges">Where to begin.</param>
    /// <param name="isJudged">Whether a node is never set aside by this.</param>
    public void SetAside(IEnumerable<AddressRange> ranges, Func<int, bool> isJudged)
    {
        var queue = new Queue<AddressRange>(ranges);
        for (int node = 0; node < nodes.Count; node++)
        {
            if (_isAside[node])
            {
                queue.Enqueue(new AddressRange(nodes[node].Start, nodes[node].End));
            }
        }

        while (queue.TryDequeue(out AddressRange range))
        {
            words.Visit(range.Start, range.End, (_, found) =>
            {
                foreach (ulong word in found)
                {
                    if (_targets.MayBe(word) && _targets.Find(word) is >= 0 and var node && !isJudged(node) && TrySetAside(node))
                    {
                        queue.Enqueue(new AddressRange(nodes[node].Start, nodes[node].End));
                    }
                }
            });
        }
    }

    /// <summary>A root points there.</summary>
    public void Add(ulong pointer, HolderRoot root)
    {
        if (_targets.MayBe(pointer) && _targets.Find(pointer) is >= 0 and var node && _kinds[node] < root.Kind && !_isAside[node])
        {
            _roots.Add(root);
            Reach(node, root.Kind, new Link(~(_roots.Count - 1), root.Address));
        }
    }

    /// <summary>All words of a range are roots.</summary>
    /// <param name="start">First byte.</param>
    /// <param name="end">One past the last.</param>
    /// <param name="kind">What they hold as.</param>
    /// <param name="threadId">Whose they are.</param>
    /// <param name="isRoot">Whether a word at an address that leads to a node is one after all; null: all are.</param>
    public void AddRange(ulong start, ulong end, HolderKind kind, int threadId = 0, Func<ulong, int, bool>? isRoot = null) =>
        words.Visit(start, end, (address, found) =>
        {
            for (int i = 0; i < found.Length; i++)
            {
                ulong at = address + ((ulong)i * sizeof(ulong));
                if (_targets.MayBe(found[i]) && !nothing.Contains(at) &&
                    (isRoot is null || (_targets.Find(found[i]) is >= 0 and var node && !_isAside[node] && isRoot(at, node))))
                {
                    Add(found[i], new HolderRoot(kind, at, threadId));
                }
            }
        });

    /// <summary>Whether a node of some kind can be reached from any of these, themselves included. Changes nothing.</summary>
    public bool CanReach(IEnumerable<int> from, Func<int, bool> isSought)
    {
        var seen = new HashSet<int>(from);
        var queue = new Queue<int>(seen);
        bool isFound = false;
        while (!isFound && queue.TryDequeue(out int node))
        {
            isFound = isSought(node);
            words.Visit(nodes[node].Start, nodes[node].End, (_, found) =>
            {
                foreach (ulong word in found)
                {
                    if (_targets.MayBe(word) && _targets.Find(word) is >= 0 and var target && !_isAside[target] && seen.Add(target))
                    {
                        queue.Enqueue(target);
                    }
                }
            });
        }

        return isFound;
    }

    /// <summary>Goes on from what was reached until nothing is new.</summary>
    public void Flood()
    {
        while (_reached.TryDequeue(out int node))
        {
            Follow(node, _kinds[node]);
        }
    }

    /// <summary>Whether a node was made in the scope that is judged.</summary>
    public Func<int, bool> IsOfScope { get; init; } = static _ => true;

    // Of memory from before the scope nobody knows which words are still meant: addresses are used again, so one that was written long
    // ago may point to a block of today. It holds, but as the weakest.
    private void Follow(int node, HolderKind kind)
    {
        NativeNodeKind source = nodes.KindOf(node);
        bool isOlder = !IsOfScope(node);
        words.Visit(nodes[node].Start, nodes[node].End, (address, found) =>
        {
            for (int i = 0; i < found.Length; i++)
            {
                if (!_targets.MayBe(found[i]) || _targets.Find(found[i]) is not (>= 0 and var target) || target == node ||
                    _isAside[target])
                {
                    continue;
                }

                NativeNodeKind sort = nodes.KindOf(target);
                HolderKind held = isOlder && sort == NativeNodeKind.Block ? HolderKind.OlderMemory : kind;
                if (_kinds[target] < held && !(source == NativeNodeKind.Mapping && sort == NativeNodeKind.Mapping))
                {
                    Reach(target, held, new Link(node, address + ((ulong)i * sizeof(ulong))));
                }
            }
        });
    }

    private void Reach(int node, HolderKind kind, Link link)
    {
        _kinds[node] = kind;
        _links[node] = link;
        _reached.Enqueue(node);
    }

    /// <param name="Node">Who holds it; of a root, the complement of its number.</param>
    /// <param name="Address">Of the word.</param>
    private readonly record struct Link(int Node, ulong Address);
}
