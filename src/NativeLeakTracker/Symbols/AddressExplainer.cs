using NativeLeaks.Heap;
using NativeLeaks.Ledger;
using NativeLeaks.Symbols.CallSites;
using NativeLeaks.Symbols.Managed;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Symbols;

/// <summary>Says what lies at an address of this process: the mapping, the functions, the instructions. One caller at a time.</summary>
internal sealed class AddressExplainer(LedgerReader? ledger, SymbolSettings settings)
{
    private const int Before = 6, After = 3;
    private const int PageBytes = 4096;

    public AddressExplanation Explain(ulong address)
    {
        MemoryMapping mapping = MemoryMap.At(MemoryMap.OfThisProcess(), address);
        var explanation = new AddressExplanation { Address = address, Mapping = mapping.Path is { Length: > 0 } path ? path : null };
        return ExplainManaged(explanation) ?? ExplainNative(explanation, mapping) ?? explanation;
    }

    private AddressExplanation? ExplainNative(AddressExplanation explanation, MemoryMapping mapping)
    {
        if (mapping.Path is not ['/', ..] path)
        {
            return null;
        }

        using NativeSymbols symbols = NativeSymbols.Open(path, settings);
        if (symbols.AddressAt(explanation.Address - mapping.Start + mapping.Offset) is not { } inFile)
        {
            return null;
        }

        // Frames are known by the address that their call returns to; anything else is the instruction itself.
        var calls = new CallDecoder();
        bool isReturnAddress = calls.Check(symbols, inFile).IsCall;
        string file = Path.GetFileName(path);
        List<LeakFrame> frames = [];
        foreach (SourceFrame source in symbols.Find(isReturnAddress ? inFile - 1 : inFile))
        {
            string? name = source.Function is null ? null : Demangler.Demangle(source.Function);
            frames.Add(new LeakFrame(LeakFrameKind.Native, name, file)
            {
                Symbol = name == source.Function ? null : source.Function,
                File = source.File,
                Line = source.Line > 0 ? source.Line : null,
                Inlined = source.IsInlined,
                Address = explanation.Address,
            });
        }

        CodeExplanation? code = calls.Explain(symbols, inFile, isReturnAddress, Before, After);
        return explanation with
        {
            Frames = frames.Count > 0 ? frames : [new LeakFrame(LeakFrameKind.Native, null, file) { Offset = (long)inFile, Address = explanation.Address }],
            Instructions =
            [
                .. code?.Instructions.Select(static i => new Instruction(i.Address, i.Bytes, i.Text, i.IsCall, i.IsHere)) ?? [],
            ],
        };
    }

    /// <summary>Managed code is known by the frames that were recorded: the return addresses that reports show.</summary>
    private AddressExplanation? ExplainManaged(AddressExplanation explanation)
    {
        if (ledger is null)
        {
            return null;
        }

        foreach (ref readonly ContextEntry node in ledger.Contexts)
        {
            if (node.Pc == explanation.Address && node.Kind == NodeKind.Managed)
            {
                bool isReturnAddress = !node.Flags.HasFlag(NodeFlags.ExactPc);
                using var files = new AssemblyFiles(ledger);
                ManagedFrame frame = new ManagedFrames(ledger, files, settings, isThisProcess: true).Find(node.Object, isReturnAddress ? node.Pc - 1 : node.Pc);
                return explanation with
                {
                    Frames =
                    [
                        new LeakFrame(LeakFrameKind.Managed, frame.Name.Text, frame.Module)
                        {
                            Symbol = frame.Name.Symbol,
                            File = frame.Line?.File is { } file ? settings.Map(file) : null,
                            Line = frame.Line?.Line,
                            Link = frame.Line?.Link,
                            Address = node.Pc,
                        },
                    ],
                    Instructions = CodeOf(ledger.Code(node.Object), node.Pc, isReturnAddress),
                };
            }
        }

        return null;
    }

    /// <summary>Code that could be collected meanwhile is not read.</summary>
    private static unsafe List<Instruction> CodeOf(in CodeEntry code, ulong address, bool isReturnAddress)
    {
        if (code.Flags.HasFlag(CodeFlags.Collectible) || code.Start == 0 || code.Start > address || address - code.Start > int.MaxValue / 2)
        {
            return [];
        }

        // A little more than up to the address, and never into a page that may not be mapped.
        ulong end = Math.Min(address + 32, (address + PageBytes) & ~(ulong)(PageBytes - 1));
        var bytes = new ReadOnlySpan<byte>((void*)code.Start, (int)(end - code.Start));
        DecodedInstruction[] decoded = Disassembler.Decode(bytes, code.Start);
        int here = Array.FindIndex(decoded, i => isReturnAddress ? i.End == address : i.Address == address);
        if (here < 0)
        {
            return [];
        }

        int first = Math.Max(0, here - Before), last = Math.Min(decoded.Length - 1, here + After);
        ulong start = decoded[first].Address;
        ReadOnlySpan<byte> shown = bytes.Slice((int)(start - code.Start), (int)(decoded[last].End - start));
        string[] texts = Disassembler.Format(shown, start, static _ => null);
        List<Instruction> instructions = [];
        for (int i = first; i <= last && texts.Length == last - first + 1; i++)
        {
            byte[] own = bytes.Slice((int)(decoded[i].Address - code.Start), decoded[i].Length).ToArray();
            instructions.Add(new Instruction(decoded[i].Address, own, texts[i - first], decoded[i].IsCall, i == here));
        }

        return instructions;
    }
}
