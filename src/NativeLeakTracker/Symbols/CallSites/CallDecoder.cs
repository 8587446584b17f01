using System.Buffers.Binary;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Symbols.CallSites;

/// <summary>
/// Reads the machine code around return addresses: whether a call ends there, whom it calls, and which functions stood between
/// that one and the next frame but left none, because they ended with a jump. Not thread-safe.
/// </summary>
internal sealed class CallDecoder
{
    // In the order in which they are frequent.
    private static readonly int[] s_lengths = [5, 6, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    private readonly DecodedFunctions _functions = new();

    /// <summary>
    /// The call that ends at a return address. Most need no disassembler: five bytes before it is a call of a known function.
    /// </summary>
    public CallSite Check(ICodeImage image, ulong returnAddress) =>
        PlainCall(image, returnAddress) ?? DecodedCall(image, returnAddress);

    /// <summary>
    /// The functions that the call went through without leaving a frame, found by following jumps from its target to the function
    /// of the next younger frame. Nothing unless there is exactly one way, and all of it is known.
    /// </summary>
    /// <param name="site">The call in the older frame.</param>
    /// <param name="callerImage">The library that holds it.</param>
    /// <param name="callee">The function of the younger frame.</param>
    /// <param name="resolveImport">Where an imported function is defined in the process; null: not known.</param>
    public Elision Elided(
        CallSite site, ICodeImage callerImage, CalleeFrame callee, Func<string, (ICodeImage Image, ulong Address)?> resolveImport)
    {
        if (!site.IsCall)
        {
            return Elision.Nothing(ElisionStatus.NoCall);
        }

        return site.IsIndirect
            ? Elision.Nothing(ElisionStatus.IndirectCall)
            : new TailCallSearch(_functions, callee, resolveImport).Run(callerImage, site);
    }

    /// <summary>The instructions around an address, for people.</summary>
    public CodeExplanation? Explain(ICodeImage image, ulong address, bool isReturnAddress, int before, int after) =>
        CodeExplanation.Make(_functions, image, address, isReturnAddress, before, after);

    /// <summary>
    /// <c>e8 rel32</c> whose target is a function's first byte or an import's stub. That other bytes look so by chance is a matter
    /// of some thousand functions in 4 GB of targets.
    /// </summary>
    private static CallSite? PlainCall(ICodeImage image, ulong returnAddress)
    {
        const int Length = 5;
        const byte CallOpcode = 0xe8;
        ReadOnlySpan<byte> code = returnAddress < Length ? default : image.CodeAt(returnAddress - Length, Length);
        if (code.Length < Length || code[0] != CallOpcode)
        {
            return null;
        }

        ulong target = returnAddress + (ulong)BinaryPrimitives.ReadInt32LittleEndian(code[1..]);
        if (PltStub.ImportOf(image, target) is { } import)
        {
            return new CallSite(returnAddress, CallEvidence.Certain, Length, null, import);
        }

        return image.FunctionAt(target) is { } function && function.Start == target
            ? new CallSite(returnAddress, CallEvidence.Certain, Length, target, null)
            : null;
    }

    private CallSite DecodedCall(ICodeImage image, ulong returnAddress)
    {
        if (returnAddress == 0 || image.CodeAt(returnAddress - 1, 1).IsEmpty || !Disassembler.IsAvailable)
        {
            return CallSite.Not(returnAddress, CallEvidence.Unknown);
        }

        if (image.FunctionAt(returnAddress - 1) is { } function && _functions.Of(image, function) is { } code)
        {
            int index = code.IndexOfEnd(returnAddress);
            if (index >= 0 && code.Instructions[index].IsCall)
            {
                return Site(image, code.Instructions[index], CallEvidence.Certain);
            }

            // Out of step behind data, decoding proves nothing.
            if (code.IsSound)
            {
                return CallSite.Not(returnAddress, CallEvidence.None);
            }
        }

        foreach (int length in s_lengths)
        {
            ReadOnlySpan<byte> bytes = returnAddress < (ulong)length ? default : image.CodeAt(returnAddress - (ulong)length, length);
            if (bytes.Length == length &&
                Disassembler.Decode(bytes, returnAddress - (ulong)length) is [{ IsCall: true } call] && call.Length == length)
            {
                return Site(image, call, CallEvidence.Likely);
            }
        }

        return CallSite.Not(returnAddress, CallEvidence.None);
    }

    private static CallSite Site(ICodeImage image, in DecodedInstruction call, CallEvidence evidence)
    {
        string? import = call.Flow == InstructionFlow.Call ? PltStub.ImportOf(image, call.Target)
            : call.Target != 0 ? image.ImportAt(call.Target)
            : null;
        ulong? target = call.Flow == InstructionFlow.Call && import is null ? call.Target : null;
        return new CallSite(call.End, evidence, call.Length, target, import);
    }
}
