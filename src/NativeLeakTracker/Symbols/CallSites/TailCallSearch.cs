using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Symbols.CallSites;

/// <summary>
/// A function whose last act is a call jumps there instead, and its frame is gone. This follows such jumps, breadth first, from
/// a call's target to the function that has the next frame. It only believes a way that is the only one: whatever it cannot
/// look into might be another.
/// </summary>
internal sealed class TailCallSearch(
    DecodedFunctions functions, CalleeFrame callee, Func<string, (ICodeImage Image, ulong Address)?> resolveImport)
{
    private const int MaxFunctions = 400;
    private const ulong MaxBytes = 256 * 1024;

    private readonly SplitFunctions _splits = new(functions);
    private readonly List<Node> _nodes = [];
    private readonly Dictionary<(ICodeImage Image, ulong Start), Node> _byFunction = [];
    private readonly Node _named = new(null, default) { IsCallee = true };
    private readonly (ICodeImage Image, FunctionExtent Extent)? _callee =
        callee.Image?.FunctionAt(callee.Address) is { } function ? (callee.Image, function) : null;

    private ElisionStatus? _doubt;
    private ulong _bytes;

    /// <summary>The functions between a call and the callee.</summary>
    public Elision Run(ICodeImage image, in CallSite site)
    {
        Node? start = site.Import is { } import ? Imported(import)
            : site.Target is { } target && image.FunctionAt(target) is { } function ? Function(image, function)
            : null;
        if (start is null)
        {
            return Elision.Nothing(ElisionStatus.UnknownTarget);
        }

        for (int next = 0; next < _nodes.Count && _doubt is null; next++)
        {
            Explore(_nodes[next]);

            // Seen only now where the callee is the cold part of the first function.
            if (start.IsCallee)
            {
                break;
            }
        }

        return start.IsCallee ? Elision.Nothing(ElisionStatus.Direct)
            : _doubt is { } doubt ? Elision.Nothing(doubt)
            : OnlyWay(start);
    }

    private Elision OnlyWay(Node start)
    {
        HashSet<Node> leading = Leading();
        if (!leading.Contains(start))
        {
            return Elision.Nothing(ElisionStatus.NoRoute);
        }

        List<ElidedFrame> frames = [];
        for (Node node = start; !node.IsCallee;)
        {
            frames.Add(new ElidedFrame(node.Image!, node.Entry));
            Node[] ways = [.. node.Next.Where(next => next.IsCallee || leading.Contains(next))];

            // The callee may stand for several functions, which differ in nothing that matters here.
            if (ways.Length > 1 && !Array.TrueForAll(ways, static way => way.IsCallee))
            {
                return Elision.Nothing(ElisionStatus.Ambiguous);
            }

            node = ways[0];
        }

        frames.Reverse();
        return new Elision(ElisionStatus.Found, frames);
    }

    /// <summary>The functions from which jumps lead to the callee.</summary>
    private HashSet<Node> Leading()
    {
        ILookup<Node, Node> previous = _nodes.SelectMany(static node => node.Next.Select(next => (node, next)))
            .ToLookup(static edge => edge.next, static edge => edge.node);
        HashSet<Node> leading = [];
        Stack<Node> pending = new(_nodes.Where(static node => node.IsCallee).Append(_named));
        while (pending.TryPop(out Node? node))
        {
            foreach (Node before in previous[node].Where(before => !before.IsCallee && leading.Add(before)))
            {
                pending.Push(before);
            }
        }

        return leading;
    }

    private void Explore(Node node)
    {
        ICodeImage image = node.Image!;
        for (int piece = 0; piece < node.Pieces.Count && !node.IsCallee && _doubt is null; piece++)
        {
            _bytes += node.Pieces[piece].Size;
            if (functions.Of(image, node.Pieces[piece]) is not { IsSound: true } code)
            {
                _doubt = ElisionStatus.Undecodable;
                return;
            }

            if (_bytes > MaxBytes)
            {
                _doubt = ElisionStatus.TooFar;
                return;
            }

            foreach (DecodedInstruction instruction in code.Instructions)
            {
                switch (instruction.Flow)
                {
                    case InstructionFlow.Jump or InstructionFlow.ConditionalJump:
                        Follow(node, image, instruction);
                        break;
                    case InstructionFlow.IndirectJump
                        when instruction.Target != 0 && image.ImportAt(instruction.Target) is { } import:
                        Add(node, Imported(import));
                        break;
                    case InstructionFlow.IndirectJump:
                        _doubt ??= ElisionStatus.IndirectJump;
                        break;
                }
            }
        }
    }

    private void Follow(Node node, ICodeImage image, in DecodedInstruction jump)
    {
        ulong target = jump.Target;
        if (node.Pieces.Exists(piece => piece.Contains(target)))
        {
            return;
        }

        if (PltStub.ImportOf(image, target) is { } import)
        {
            Add(node, Imported(import));
            return;
        }

        if (image.FunctionAt(target) is not { } function)
        {
            _doubt ??= ElisionStatus.UnknownTarget;
            return;
        }

        // Nobody calls into the middle of a function: then, and by its name, it is a part of this one. A part without a name looks
        // like a function; compilers reach it by a conditional jump, and functions hardly ever.
        bool isPart = target != function.Start ||
            node.Pieces.Exists(piece => SplitFunctions.IsPart(function.Name, piece.Name)) ||
            (function.Name is null && jump.Flow == InstructionFlow.ConditionalJump);
        if (isPart)
        {
            AddPiece(node, image, function);
        }
        else
        {
            Add(node, Function(image, function));
        }
    }

    private static void Add(Node node, Node? next)
    {
        // A function that jumps to its own beginning calls itself; one frame would stand for all of the calls.
        if (next is not null && next != node)
        {
            node.Next.Add(next);
        }
    }

    private void AddPiece(Node node, ICodeImage image, in FunctionExtent piece)
    {
        node.Pieces.Add(piece);
        node.IsCallee |= IsCallee(image, piece);
    }

    private Node? Imported(string name)
    {
        if (callee.Names.Contains(name))
        {
            return _named;
        }

        if (resolveImport(name) is { } defined && defined.Image.FunctionAt(defined.Address) is { } function)
        {
            return Function(defined.Image, function);
        }

        _doubt ??= ElisionStatus.UnknownTarget;
        return null;
    }

    private Node Function(ICodeImage image, in FunctionExtent function)
    {
        if (function.Name is { } name && callee.Names.Contains(name))
        {
            return _named;
        }

        FunctionExtent whole = _splits.WholeOf(image, function);
        if (_byFunction.TryGetValue((image, whole.Start), out Node? known))
        {
            if (!known.Pieces.Contains(function))
            {
                AddPiece(known, image, function);
            }

            return known;
        }

        if (_nodes.Count >= MaxFunctions)
        {
            _doubt ??= ElisionStatus.TooFar;
        }

        Node node = new(image, function) { IsCallee = IsCallee(image, function) };
        node.Pieces.Add(function);
        _nodes.Add(node);
        return _byFunction[(image, whole.Start)] = node;
    }

    private bool IsCallee(ICodeImage image, in FunctionExtent function) =>
        _callee is { } known && ReferenceEquals(known.Image, image) &&
        (known.Extent.Start == function.Start ||
         _splits.WholeOf(image, known.Extent).Start == _splits.WholeOf(image, function).Start);

    /// <summary>A function with all the parts that the compiler made of it.</summary>
    private sealed class Node(ICodeImage? image, FunctionExtent entry)
    {
        public ICodeImage? Image => image;

        public FunctionExtent Entry => entry;

        public List<FunctionExtent> Pieces { get; } = [];

        public HashSet<Node> Next { get; } = [];

        public bool IsCallee { get; set; }
    }
}
