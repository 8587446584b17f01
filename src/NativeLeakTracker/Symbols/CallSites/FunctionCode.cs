using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Symbols.CallSites;

/// <summary>A function, decoded from its first byte to its last.</summary>
internal sealed class FunctionCode(FunctionExtent extent, DecodedInstruction[] instructions)
{
    public FunctionExtent Extent => extent;

    public IReadOnlyList<DecodedInstruction> Instructions => instructions;

    /// <summary>Whether all of it is instructions: data between them could have put decoding out of step.</summary>
    public bool IsSound { get; } =
        instructions.Length > 0 && Array.TrueForAll(instructions, static one => one.Flow != InstructionFlow.Invalid);

    /// <summary>Index of the instruction that ends at an address; -1: none does.</summary>
    public int IndexOfEnd(ulong address)
    {
        int index = IndexOf(address - 1);
        return index >= 0 && instructions[index].End == address ? index : -1;
    }

    /// <summary>Index of the instruction that holds an address; -1: none does.</summary>
    public int IndexOf(ulong address)
    {
        int low = 0, high = instructions.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            if (address < instructions[middle].Address)
            {
                high = middle - 1;
            }
            else if (address >= instructions[middle].End)
            {
                low = middle + 1;
            }
            else
            {
                return middle;
            }
        }

        return -1;
    }
}
