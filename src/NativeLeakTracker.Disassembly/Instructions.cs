using Iced.Intel;
using NativeLeaks.Symbols.CallSites;

namespace NativeLeaks.Disassembly;

/// <summary>Machine code of x86-64 as the library asks for it, in types that every load context shares.</summary>
public static class Instructions
{
    /// <summary>One instruction after the other from the first byte on. Flow is an <see cref="InstructionFlow"/>.</summary>
    public static (int Length, int Flow, ulong Target)[] Decode(byte[] code, ulong address)
    {
        ArgumentNullException.ThrowIfNull(code);
        var decoder = Decoder.Create(64, code, address);
        List<(int Length, int Flow, ulong Target)> result = new(code.Length / 4);
        var tables = new TableJumps();
        ulong end = address + (ulong)code.Length;
        while (decoder.IP < end)
        {
            decoder.Decode(out Instruction instruction);
            InstructionFlow flow = tables.Follow(instruction) ? InstructionFlow.TableJump : FlowOf(instruction);
            result.Add((instruction.Length, (int)flow, TargetOf(instruction, flow)));
        }

        return [.. result];
    }

    /// <summary>
    /// The text of each instruction, Intel's way. The function is asked for the name of each address that an instruction refers to.
    /// </summary>
    public static string[] Format(byte[] code, ulong address, Func<ulong, string?> nameOf)
    {
        ArgumentNullException.ThrowIfNull(code);
        var formatter = new IntelFormatter(new Names(nameOf))
        {
            Options = { SpaceAfterOperandSeparator = true, HexPrefix = "0x", HexSuffix = "", UppercaseHex = false },
        };
        var decoder = Decoder.Create(64, code, address);
        var output = new StringOutput();
        List<string> result = [];
        ulong end = address + (ulong)code.Length;
        while (decoder.IP < end)
        {
            decoder.Decode(out Instruction instruction);
            formatter.Format(instruction, output);
            result.Add(output.ToStringAndReset());
        }

        return [.. result];
    }

    private static InstructionFlow FlowOf(in Instruction instruction) => instruction switch
    {
        { IsInvalid: true } => InstructionFlow.Invalid,
        { IsCallNear: true } => InstructionFlow.Call,
        { IsCallNearIndirect: true } => InstructionFlow.IndirectCall,
        { IsJmpShortOrNear: true } => InstructionFlow.Jump,
        { IsJmpNearIndirect: true } => InstructionFlow.IndirectJump,
        { FlowControl: FlowControl.ConditionalBranch or FlowControl.XbeginXabortXend, Op0Kind: OpKind.NearBranch64 } =>
            InstructionFlow.ConditionalJump,
        { FlowControl: FlowControl.Return } => InstructionFlow.Return,
        _ => InstructionFlow.Next,
    };

    private static ulong TargetOf(in Instruction instruction, InstructionFlow flow) => flow switch
    {
        InstructionFlow.Call or InstructionFlow.Jump or InstructionFlow.ConditionalJump => instruction.NearBranchTarget,
        InstructionFlow.IndirectCall or InstructionFlow.IndirectJump when instruction.IsIPRelativeMemoryOperand =>
            instruction.IPRelativeMemoryAddress,
        _ => 0,
    };

    private sealed class Names(Func<ulong, string?> nameOf) : ISymbolResolver
    {
        public bool TryGetSymbol(
            in Instruction instruction, int operand, int instructionOperand, ulong address, int addressSize, out SymbolResult symbol)
        {
            // Small constants are no addresses.
            string? name = instruction.IsIPRelativeMemoryOperand || instruction.FlowControl != FlowControl.Next ? nameOf(address) : null;
            symbol = new SymbolResult(address, name ?? "");
            return name is not null;
        }
    }
}
