using System.Buffers.Binary;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Symbols.CallSites;

/// <summary>
/// A few bytes through which calls of imported functions go: <c>jmp [slot]</c>, with <c>endbr64</c> or <c>bnd</c> before it where
/// the linker was asked for them. (System V ABI, AMD64 supplement, "Procedure Linkage Table".)
/// </summary>
internal static class PltStub
{
    private const int MaxBytes = 11;

    /// <summary>The function that the stub at the address goes to; null: no stub.</summary>
    public static string? ImportOf(ICodeImage image, ulong address)
    {
        ReadOnlySpan<byte> code = image.CodeAt(address, MaxBytes);
        int length = code.StartsWith(EndBranch) ? EndBranch.Length : 0;
        length += code[length..].StartsWith(Bound) ? Bound.Length : 0;

        ReadOnlySpan<byte> jump = code[length..];
        if (jump.Length < 6 || !jump.StartsWith(JumpThroughMemory))
        {
            return null;
        }

        int offset = BinaryPrimitives.ReadInt32LittleEndian(jump[2..]);
        return image.ImportAt(address + (ulong)length + 6 + (ulong)offset);
    }

    private static ReadOnlySpan<byte> EndBranch => [0xf3, 0x0f, 0x1e, 0xfa];

    private static ReadOnlySpan<byte> Bound => [0xf2];

    private static ReadOnlySpan<byte> JumpThroughMemory => [0xff, 0x25];
}
