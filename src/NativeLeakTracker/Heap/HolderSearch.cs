using System.Runtime.CompilerServices;

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

    /// <summary>It is the framework's own, and so is native memory that it leads to.</summary>
    public bool IsFrameworks { get; init; }
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
    private readonly NativeNodes _nodes = nodes;
    private readonly AddressRanges _nothing = nothing;
    private readonly PointerTargets _targets = nodes.Targets;
    private readonly HolderKind[] _kinds = new HolderKind[nodes.Count];
    private readonly Link[] _links = new Link[nodes.Count];
    private readonly List<HolderRoot> _roots = [];
    private readonly bool[] _isAside = new bool[nodes.Count];
    private readonly bool[] _isSwept = new bool[nodes.Count];
    private readonly bool[] _isFrameworks = new bool[nodes.Count];
    private readonly bool[] _isThroughScope = new bool[nodes.Count];
    private readonly bool[] _isThroughUnrecorded = new bool[nodes.Count];
    private List<int> _reached = [];

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

    /// <summary>What a range refers to, and was not reached before, is set aside as well, unless it is to be judged.</summary>
    /// <param name="ranges">Where to begin.</param>
    /// <param name="isJudged">Whether a node is never set aside by this.</param>
    /// <param name="goesOn">Whether what nodes that are aside refer to is set aside, too, until nothing is new.</param>
    public void SetAside(IEnumerable<AddressRange> ranges, Func<int, bool> isJudged, bool goesOn)
    {
        bool[] before = [.. _isAside];
        var aside = new AsideVisitor(this, isJudged);
        foreach (AddressRange range in ranges)
        {
            words.Visit(range.Start, range.End, ref aside);
        }

        _reached.Clear();
        if (goesOn)
        {
            _reached.AddRange(Enumerable.Range(0, _nodes.Count).Where(node => _isAside[node]));
            VisitReached(ref aside);
            for (int node = 0; node < _nodes.Count; node++)
            {
                _isSwept[node] |= _isAside[node] && !before[node];
            }
        }
    }

    /// <summary>Nodes that were set aside because nodes that are aside refer to them, in turn, may be reached again.</summary>
    public void TakeSweptBack()
    {
        for (int node = 0; node < _nodes.Count; node++)
        {
            _isAside[node] &= !_isSwept[node];
        }
    }

    /// <summary>A root points there.</summary>
    public void Add(ulong pointer, HolderRoot root)
    {
        if (_targets.MayBe(pointer) && _targets.Find(pointer) is >= 0 and var node && _kinds[node] < root.Kind && !_isAside[node])
        {
            _roots.Add(root);
            Reach(node, root.Kind, root.IsFrameworks && !IsOfScope(node), isThroughScope: false, new Link(~(_roots.Count - 1), root.Address));
        }
    }

    /// <summary>All words of a range are roots.</summary>
    /// <param name="start">First byte.</param>
    /// <param name="end">One past the last.</param>
    /// <param name="kind">What they hold as.</param>
    /// <param name="threadId">Whose they are.</param>
    /// <param name="isFrameworks">Whether they are the framework's own.</param>
    /// <param name="isRoot">Whether a word at an address that leads to a node is one after all; null: all are.</param>
    public void AddRange(
        ulong start, ulong end, HolderKind kind, int threadId = 0, bool isFrameworks = false, Func<ulong, int, bool>? isRoot = null)
    {
        var roots = new RootVisitor(this, kind, threadId, isFrameworks, isRoot);
        words.Visit(start, end, ref roots);
    }

    /// <summary>Whether a node of some kind can be reached from any of these, themselves included. Changes nothing.</summary>
    public bool CanReach(IEnumerable<int> from, Func<int, bool> isSought)
    {
        var seek = new SeekingVisitor(this, [.. from]);
        List<int> level = [.. seek.Seen];
        while (level.Count > 0)
        {
            level.Sort();
            foreach (int node in level)
            {
                if (isSought(node))
                {
                    return true;
                }

                words.Visit(_nodes[node].Start, _nodes[node].End, ref seek);
            }

            level = [.. seek.Next];
            seek.Next.Clear();
        }

        return false;
    }

    /// <summary>Goes on from what was reached until nothing is new.</summary>
    public void Flood()
    {
        var follow = new FollowingVisitor(this);
        VisitReached(ref follow);
    }

    // Breadth first, so that ways are shortest ones; and of what is as far, in order of addresses: neighbours are read together.
    private void VisitReached<TVisitor>(ref TVisitor visitor)
        where TVisitor : struct, INodeVisitor
    {
        List<int> level = [];
        while (_reached.Count > 0)
        {
            (level, _reached) = (_reached, level);
            level.Sort();
            foreach (int node in level)
            {
                visitor.Enter(node);
                words.Visit(_nodes[node].Start, _nodes[node].End, ref visitor);
            }

            level.Clear();
        }
    }

    /// <summary>Whether a node is a block that was made in the scope that is judged.</summary>
    public Func<int, bool> IsOfScope { get; init; } = static _ => true;

    /// <summary>Whether a library that the framework uses made a node for itself.</summary>
    public Func<int, bool> IsFrameworkLibrarys { get; init; } = static _ => false;

    /*
     * What was made in the scope, and is held by a block from before it, is held by that, whatever holds the older block; unless
     * that is a block of the scope.
     *
     * But addresses are used again, and of memory from before the recording nobody knows which words are still meant: one that was written
     * long ago may point to a block of today. Most such words are in the framework's own structures (ICU's, OpenSSL's), for these are in
     * every process, and to them no program hands blocks of its own to keep. Such memory keeps only what the program's own static fields and
     * globals lead to by it.
     */
    private HolderKind KindHeldByOlder(int node, HolderKind kind, int target)
    {
        if (_nodes.KindOf(target) == NativeNodeKind.Block)
        {
            if (_isFrameworks[node] && !IsFrameworkLibrarys(target))
            {
                return HolderKind.None;
            }

            if (_isThroughUnrecorded[node] && kind < HolderKind.Global)
            {
                return HolderKind.DoubtfulMemory;
            }
        }

        return IsOfScope(target) && !_isThroughScope[node] && _nodes.KindOf(node) != NativeNodeKind.Mapping &&
            kind is > HolderKind.StackWord and < HolderKind.OlderMemory
            ? HolderKind.OlderMemory
            : kind;
    }

    // An older block that something else holds stays held by that: it would else be held by what it holds.
    private bool IsHeldElsewhere(int node, HolderKind held) =>
        held == HolderKind.OlderMemory && _kinds[node] != HolderKind.None && !IsOfScope(node);

    private void Reach(int node, HolderKind kind, bool isFrameworks, bool isThroughScope, Link link)
    {
        _kinds[node] = kind;
        _isFrameworks[node] = isFrameworks;
        _isThroughScope[node] = isThroughScope;
        _isThroughUnrecorded[node] = _nodes.KindOf(node) == NativeNodeKind.OlderBlock ||
            (link.Node >= 0 && !IsOfScope(link.Node) && _isThroughUnrecorded[link.Node]);
        _links[node] = link;
        _reached.Add(node);
    }

    /// <param name="Node">Who holds it; of a root, the complement of its number.</param>
    /// <param name="Address">Of the word.</param>
    private readonly record struct Link(int Node, ulong Address);

    private interface INodeVisitor : IWordVisitor
    {
        /// <summary>The words that follow are this node's.</summary>
        void Enter(int node);
    }

    private readonly struct RootVisitor(HolderSearch search, HolderKind kind, int threadId, bool isFrameworks, Func<ulong, int, bool>? isRoot)
        : IWordVisitor
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Visit(ulong address, ReadOnlySpan<ulong> words)
        {
            for (int i = 0; i < words.Length; i++)
            {
                ulong at = address + ((ulong)i * sizeof(ulong));
                if (search._targets.MayBe(words[i]) && search._targets.Find(words[i]) is >= 0 and var node &&
                    (!search._isAside[node] || search._isSwept[node]) && !search._nothing.Contains(at) && (isRoot is null || isRoot(at, node)))
                {
                    search.Add(words[i], new HolderRoot(kind, at, threadId) { IsFrameworks = isFrameworks });
                }
            }
        }
    }

    private struct FollowingVisitor(HolderSearch search) : INodeVisitor
    {
        private int _node;
        private HolderKind _kind;
        private bool _isOlder, _isFrameworkLibrarys;
        private NativeNodeKind _sort;

        public void Enter(int node)
        {
            _node = node;
            _kind = search._kinds[node];
            _isOlder = !search.IsOfScope(node);
            _isFrameworkLibrarys = search.IsFrameworkLibrarys(node);
            _sort = search._nodes.KindOf(node);
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Visit(ulong address, ReadOnlySpan<ulong> words)
        {
            for (int i = 0; i < words.Length; i++)
            {
                if (!search._targets.MayBe(words[i]) || search._targets.Find(words[i]) is not (>= 0 and var target) || target == _node ||
                    search._isAside[target] || (_sort == NativeNodeKind.Mapping && search._nodes.KindOf(target) == NativeNodeKind.Mapping))
                {
                    continue;
                }

                // Much in such blocks was never written since they were handed out.
                if (_isFrameworkLibrarys && search._nodes.KindOf(target) == NativeNodeKind.Block && !search.IsFrameworkLibrarys(target))
                {
                    continue;
                }

                bool isOfScope = search.IsOfScope(target);
                HolderKind held = _isOlder ? search.KindHeldByOlder(_node, _kind, target) : _kind;
                if (search._kinds[target] < held && !search.IsHeldElsewhere(target, held))
                {
                    search.Reach(
                        target, held, search._isFrameworks[_node] && !isOfScope, !_isOlder || search._isThroughScope[_node], new Link(_node, address + ((ulong)i * sizeof(ulong))));
                }
            }
        }
    }

    private readonly struct AsideVisitor(HolderSearch search, Func<int, bool> isJudged) : INodeVisitor
    {
        public void Enter(int node)
        {
            // All are alike.
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Visit(ulong address, ReadOnlySpan<ulong> words)
        {
            foreach (ulong word in words)
            {
                if (search._targets.MayBe(word) && search._targets.Find(word) is >= 0 and var node && !search._isAside[node] &&
                    !isJudged(node) && search.TrySetAside(node))
                {
                    search._reached.Add(node);
                }
            }
        }
    }

    private readonly struct SeekingVisitor(HolderSearch search, HashSet<int> seen) : IWordVisitor
    {
        public HashSet<int> Seen => seen;

        public List<int> Next { get; } = [];

        public void Visit(ulong address, ReadOnlySpan<ulong> words)
        {
            foreach (ulong word in words)
            {
                if (search._targets.MayBe(word) && search._targets.Find(word) is >= 0 and var target &&
                    (!search._isAside[target] || search._isSwept[target]) && seen.Add(target))
                {
                    Next.Add(target);
                }
            }
        }
    }
}
