using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Symbols.CallSites;

/// <summary>Functions decoded so far: neighbouring stacks ask for the same ones. Not thread-safe.</summary>
internal sealed class DecodedFunctions
{
    // The largest functions of real libraries, interpreters' loops, have some 100 KB.
    private const int MaxFunctionBytes = 1 << 20;

    // An instruction takes 32 bytes here.
    private const int MaxKeptInstructions = 500_000;

    private readonly Dictionary<(ICodeImage Image, ulong Start), FunctionCode?> _functions = [];
    private int _kept;

    /// <summary>The code of a function; null when it is not all there, too long, or cannot be decoded.</summary>
    public FunctionCode? Of(ICodeImage image, in FunctionExtent extent)
    {
        (ICodeImage, ulong) key = (image, extent.Start);
        if (_functions.TryGetValue(key, out FunctionCode? known))
        {
            return known;
        }

        if (_kept > MaxKeptInstructions)
        {
            _functions.Clear();
            _kept = 0;
        }

        FunctionCode? code = Decode(image, extent);
        _kept += 1 + (code?.Instructions.Count ?? 0);
        _functions[key] = code;
        return code;
    }

    private static FunctionCode? Decode(ICodeImage image, in FunctionExtent extent)
    {
        if (extent.Size is 0 or > MaxFunctionBytes)
        {
            return null;
        }

        ReadOnlySpan<byte> bytes = image.CodeAt(extent.Start, (int)extent.Size);
        if (bytes.Length < (int)extent.Size)
        {
            return null;
        }

        DecodedInstruction[] instructions = Disassembler.Decode(bytes, extent.Start);
        return instructions.Length > 0 ? new FunctionCode(extent, instructions) : null;
    }
}
