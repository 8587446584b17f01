using Iced.Intel;

namespace NativeLeaks.Disassembly;

/// <summary>
/// Tells the jump of a switch from a call through a pointer that was compiled to a jump: both are indirect. Of a switch, the table
/// is read with an index just before (<c>movsxd rax, [rdx+rax*4]; add rax, rdx; jmp rax</c>, or <c>jmp [table+rax*8]</c>), or the
/// jump is exempt from control-flow checks (<c>notrack</c>).
/// </summary>
internal sealed class TableJumps
{
    // Schedulers put a few instructions between the read and the jump.
    private const int Window = 12;

    private int _sinceRead = Window;
    private int _sinceAdd = Window;
    private Register _read;
    private Register _added;

    /// <summary>Takes the next instruction; whether it is the jump of a switch.</summary>
    public bool Follow(in Instruction instruction)
    {
        _sinceRead++;
        _sinceAdd++;
        if (instruction.IsJmpNearIndirect)
        {
            return IsTableJump(instruction);
        }

        switch (instruction.Code)
        {
            case Code.Movsxd_r64_rm32 when instruction.MemoryIndexScale == 4 && instruction.MemoryIndex != Register.None:
                _read = instruction.Op0Register;
                _sinceRead = 0;
                break;
            case Code.Add_r64_rm64 or Code.Add_rm64_r64
                when instruction.Op0Kind == OpKind.Register && instruction.Op1Kind == OpKind.Register && _sinceRead < Window &&
                     (instruction.Op0Register == _read || instruction.Op1Register == _read):
                _added = instruction.Op0Register;
                _sinceAdd = 0;
                break;
        }

        return false;
    }

    private bool IsTableJump(in Instruction instruction)
    {
        bool isTable = instruction.Op0Kind == OpKind.Memory
            ? instruction.MemoryIndexScale == 8 && instruction.MemoryIndex != Register.None
            : _sinceAdd < Window && instruction.Op0Register == _added;
        return isTable || instruction.SegmentPrefix == Register.DS;
    }
}
