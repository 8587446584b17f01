using System.Globalization;
using NativeLeaks.Analysis;
using NativeLeaks.Heap.Managed;
using NativeLeaks.Ledger;
using NativeLeaks.Symbols;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Heap;

/// <summary>Says what holds a block as the source reads, outermost first. For one report; dispose it with that.</summary>
internal sealed class HolderText(Holders holders, ContextResolver resolver, SymbolSettings settings) : IDisposable
{
    private static readonly string[] s_registers =
        ["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp", "rip"];

    private const int MaxSteps = 6;
    private readonly ElfDataRange[] _globals = [.. ElfData.Of(holders.Copy)];
    private readonly Dictionary<string, NativeSymbols> _symbols = [];
    private readonly Dictionary<uint, string> _makers = [];

    /// <summary>
    /// <c>static Cache.Instance -> SafeStatement.handle -> block</c>, or
    /// <c>libfoo.so: g_cache+0x10 -> block of 64 bytes (cache_put) -> block</c>.
    /// </summary>
    public string Of(int node)
    {
        if (holders.LostHolderOf(node) is { } lost)
        {
            return $"{NameOf(lost)}, itself lost -> block";
        }

        IReadOnlyList<HolderStep> way = holders.WayTo(node);
        List<string> parts = [];
        for (int i = 0; i < way.Count; i++)
        {
            // The ends tell most.
            if (i > 0 && way.Count > MaxSteps && i == MaxSteps / 2)
            {
                parts.Add("...");
                i = way.Count - (MaxSteps / 2);
            }

            if (way[i].Root is { } root && NameOf(root) is { } name)
            {
                parts.Add(name);
            }

            parts.Add(i == way.Count - 1 ? "block" : NameOf(way[i]));
        }

        return string.Join(" -> ", parts);
    }

    public void Dispose()
    {
        foreach (NativeSymbols symbols in _symbols.Values)
        {
            symbols.Dispose();
        }
    }

    private string NameOf(in HolderStep step) => step.Kind switch
    {
        NativeNodeKind.Block => NameOf(step.Block),
        NativeNodeKind.OlderBlock => "memory from before the recording",
        _ => "mapped memory",
    };

    private string NameOf(in LiveBlock block) =>
        string.Create(CultureInfo.InvariantCulture, $"block of {block.SizeBytes:N0} bytes{MakerOf(block.Context)}");

    /// <summary>Who made it: the innermost function that is no C runtime's.</summary>
    private string MakerOf(uint context)
    {
        if (!_makers.TryGetValue(context, out string? maker))
        {
            LeakFrame? frame = Blame.First(
                resolver.Resolve(context), static f => f.Role != ModuleRole.CRuntime && f.Frame.Method is not null)?.Frame;
            maker = _makers[context] = frame?.Method is { } method ? $" ({ShortNameOf(method)})" : "";
        }

        return maker;
    }

    private static string ShortNameOf(string method)
    {
        int end = method.IndexOf('(', StringComparison.Ordinal);
        return end > 0 ? method[..end] : method;
    }

    private string? NameOf(HolderRoot root) => root.Kind switch
    {
        _ when root.Managed is { } managed => NameOf(managed),
        HolderKind.Static => holders.Heap.StaticAt(root.Address),
        HolderKind.Global => NameOfGlobal(root.Address),
        HolderKind.ThreadStorage => "thread storage of " + NameOfThread(root.ThreadId),
        _ when root.IsRegister && root.Address < (ulong)s_registers.Length => $"register {s_registers[root.Address]} of {NameOfThread(root.ThreadId)}",
        _ => NameOfStack(root.Address, root.ThreadId),
    };

    private string NameOf(in ManagedHolder managed)
    {
        string way = holders.Heap.PathTo(managed);
        ManagedRoot root = holders.Heap.RootOf(managed);
        int first = way.IndexOf(" -> ", StringComparison.Ordinal);
        return root is { Kind: RootKind.Stack, Slot: not 0 } && first > 0 ? NameOfStack(root.Slot, root.ThreadId) + way[first..] : way;
    }

    /// <summary>Of the asking thread the method is known, and that it is a local of it, or a temporary value.</summary>
    private string NameOfStack(ulong address, int thread) =>
        IsCaller(thread) && holders.FrameAt(address) is { } method ? $"a local of {ShortNameOf(method)}()" : "stack of " + NameOfThread(thread);

    private bool IsCaller(int thread) => holders.Copy.Threads.Any(t => t.Id == thread && t.IsCaller);

    private string NameOfThread(int id) =>
        IsCaller(id) ? "this thread" : string.Create(CultureInfo.InvariantCulture, $"thread {id}{CommandOf(id)}");

    private static string CommandOf(int thread)
    {
        try
        {
            return string.Create(CultureInfo.InvariantCulture, $" ({File.ReadAllText($"/proc/self/task/{thread}/comm").TrimEnd('\n')})");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    private string NameOfGlobal(ulong address)
    {
        foreach (ElfDataRange data in _globals)
        {
            if (address < data.Start || address >= data.End)
            {
                continue;
            }

            if (!_symbols.TryGetValue(data.Path, out NativeSymbols? symbols))
            {
                _symbols[data.Path] = symbols = NativeSymbols.Open(data.Path, settings);
            }

            ulong inFile = address - data.LoadBias;
            string place = symbols.VariableAt(inFile) is { Name: { } variable } extent
                ? Demangler.Demangle(variable) + OffsetText(inFile - extent.Start)
                : "its data" + OffsetText(inFile);
            return $"{Path.GetFileName(data.Path)}: {place}";
        }

        return "a global variable";
    }

    private static string OffsetText(ulong offset) => offset == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $"+0x{offset:x}");
}
