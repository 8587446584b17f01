using System.Buffers.Binary;

namespace NativeLeaks.Symbols.Managed;

/// <summary>A call in a method's IL.</summary>
/// <param name="Offset">Where the instruction stands.</param>
/// <param name="Token">What it calls; for an indirect call a signature.</param>
/// <param name="Kind">How.</param>
/// <param name="IsLast">A return follows at once: the JIT may leave the method by a jump.</param>
internal readonly record struct IlCall(int Offset, int Token, IlCallKind Kind, bool IsLast);

internal enum IlCallKind
{
    /// <summary>call, jmp, newobj: this very method.</summary>
    Direct,

    /// <summary>callvirt: this method or one that overrides it.</summary>
    Virtual,

    /// <summary>calli: whatever the pointer on the stack points to.</summary>
    Indirect,
}

/// <summary>Lists the calls in IL. (ECMA-335 III; the sizes of operands are those of its opcodes.)</summary>
internal static class IlCalls
{
    private const byte TwoByteOpcode = 0xfe;
    private const byte Switch = 0x45;
    private const byte Return = 0x2a;
    private const byte Jump = 0x27;

    /// <summary>All calls in order; those before a damaged instruction if there is one.</summary>
    public static List<IlCall> List(ReadOnlySpan<byte> il)
    {
        List<IlCall> calls = [];
        for (int at = 0; at < il.Length;)
        {
            int start = at;
            byte opcode = il[at++];
            int operand;
            if (opcode == TwoByteOpcode)
            {
                if (at >= il.Length)
                {
                    break;
                }

                operand = OperandOfTwoByte(il[at++]);
            }
            else if (opcode == Switch)
            {
                if (at + 4 > il.Length)
                {
                    break;
                }

                uint targets = BinaryPrimitives.ReadUInt32LittleEndian(il[at..]);
                operand = targets > (uint)il.Length ? il.Length : 4 + (4 * (int)targets);
            }
            else
            {
                operand = OperandOf(opcode);
            }

            if (operand > il.Length - at)
            {
                break;
            }

            if (KindOf(opcode) is { } kind)
            {
                bool isLast = opcode == Jump || (at + operand < il.Length && il[at + operand] == Return);
                calls.Add(new IlCall(start, BinaryPrimitives.ReadInt32LittleEndian(il[at..]), kind, isLast));
            }

            at += operand;
        }

        return calls;
    }

    private static IlCallKind? KindOf(byte opcode) => opcode switch
    {
        Jump or 0x28 or 0x73 => IlCallKind.Direct,
        0x6f => IlCallKind.Virtual,
        0x29 => IlCallKind.Indirect,
        _ => null,
    };

    private static int OperandOf(byte opcode) => opcode switch
    {
        (>= 0x0e and <= 0x13) or 0x1f or (>= 0x2b and <= 0x37) or 0xde => 1,
        0x21 or 0x23 => 8,
        0x20 or 0x22 or (>= 0x27 and <= 0x29) or (>= 0x38 and <= 0x44) or (>= 0x6f and <= 0x75) or 0x79
            or (>= 0x7b and <= 0x81) or 0x8c or 0x8d or 0x8f or (>= 0xa3 and <= 0xa5) or 0xc2 or 0xc6 or 0xd0 or 0xdd => 4,
        _ => 0,
    };

    private static int OperandOfTwoByte(byte opcode) => opcode switch
    {
        0x06 or 0x07 or 0x15 or 0x16 or 0x1c => 4,
        >= 0x09 and <= 0x0e => 2,
        0x12 or 0x19 => 1,
        _ => 0,
    };
}
