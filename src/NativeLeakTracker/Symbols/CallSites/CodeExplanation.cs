using System.Globalization;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Symbols.CallSites;

/// <summary>An instruction as it is shown to people.</summary>
/// <param name="Address">In the file's own numbering.</param>
/// <param name="Bytes">Its machine code.</param>
/// <param name="Text">Intel's notation; addresses of functions and imports by their names.</param>
/// <param name="IsCall">Whether it calls a function.</param>
/// <param name="IsHere">Whether it is the one that was asked about: the call, for a return address.</param>
internal sealed record ExplainedInstruction(ulong Address, IReadOnlyList<byte> Bytes, string Text, bool IsCall, bool IsHere);

/// <summary>The machine code around an address, decoded from the beginning of its function.</summary>
/// <param name="Function">The function that holds it.</param>
/// <param name="Instructions">In order of address; the one that was asked about is among them.</param>
internal sealed record CodeExplanation(FunctionExtent Function, IReadOnlyList<ExplainedInstruction> Instructions)
{
    private const int MostInstructions = 200;

    /// <summary>
    /// The instructions around an address: null where no function is known there, or decoding it finds no instruction that fits.
    /// </summary>
    internal static CodeExplanation? Make(
        DecodedFunctions functions, ICodeImage image, ulong address, bool isReturnAddress, int before, int after)
    {
        ulong inside = isReturnAddress ? address - 1 : address;
        if (image.FunctionAt(inside) is not { } function || functions.Of(image, function) is not { } code)
        {
            return null;
        }

        int here = isReturnAddress ? code.IndexOfEnd(address) : code.IndexOf(address);
        if (here < 0)
        {
            return null;
        }

        int first = Math.Max(0, here - Math.Clamp(before, 0, MostInstructions));
        int last = Math.Min(code.Instructions.Count - 1, here + Math.Clamp(after, 0, MostInstructions));
        ulong start = code.Instructions[first].Address;
        ReadOnlySpan<byte> bytes = image.CodeAt(start, (int)(code.Instructions[last].End - start));
        string[] texts = Disassembler.Format(bytes, start, target => NameOf(image, target));
        if (texts.Length != last - first + 1)
        {
            return null;
        }

        List<ExplainedInstruction> instructions = [];
        for (int index = first; index <= last; index++)
        {
            DecodedInstruction instruction = code.Instructions[index];
            byte[] own = bytes.Slice((int)(instruction.Address - start), instruction.Length).ToArray();
            instructions.Add(
                new ExplainedInstruction(instruction.Address, own, texts[index - first], instruction.IsCall, index == here));
        }

        return new CodeExplanation(function, instructions);
    }

    private static string? NameOf(ICodeImage image, ulong address)
    {
        if ((PltStub.ImportOf(image, address) ?? image.ImportAt(address)) is { } import)
        {
            return Demangler.Demangle(import);
        }

        if (image.FunctionAt(address) is not { Name: { } name } function)
        {
            return null;
        }

        string offset = (address - function.Start).ToString("x", CultureInfo.InvariantCulture);
        return address == function.Start ? Demangler.Demangle(name) : $"{Demangler.Demangle(name)}+0x{offset}";
    }
}
