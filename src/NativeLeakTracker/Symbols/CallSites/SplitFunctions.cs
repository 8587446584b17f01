using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Symbols.CallSites;

/// <summary>
/// Functions that the compiler cut in pieces: <c>name.cold</c> holds what seldom runs, <c>name.part.0</c> what was not inlined with
/// the rest. Both belong to <c>name</c>. Copies of a function (<c>name.constprop.0</c>) are functions of their own.
/// </summary>
internal sealed class SplitFunctions(DecodedFunctions functions)
{
    private const int MaxSuffixes = 4;

    /// <summary>Whether the first is a part of the second by its name.</summary>
    public static bool IsPart(string? part, string? whole)
    {
        for (int suffix = 0; suffix < MaxSuffixes && part is not null && whole is not null; suffix++)
        {
            part = WithoutSuffix(part);
            if (part == whole)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>
    /// The function that a part belongs to; the extent itself where it is none. Static functions of one name can be many, so the
    /// one that is found by the name must also refer to the part.
    /// </summary>
    public FunctionExtent WholeOf(ICodeImage image, FunctionExtent extent)
    {
        for (int suffix = 0; suffix < MaxSuffixes; suffix++)
        {
            if (WithoutSuffix(extent.Name) is not { } name || image.AddressOf(name) is not { } address ||
                image.FunctionAt(address) is not { } whole || !RefersTo(image, whole, extent))
            {
                break;
            }

            extent = whole;
        }

        return extent;
    }

    private bool RefersTo(ICodeImage image, FunctionExtent whole, FunctionExtent part) =>
        functions.Of(image, whole) is { } code &&
        code.Instructions.Any(instruction =>
            instruction.Flow is InstructionFlow.Call or InstructionFlow.Jump or InstructionFlow.ConditionalJump &&
            part.Contains(instruction.Target));

    private static string? WithoutSuffix(string? name)
    {
        int dot = name?.LastIndexOf('.') ?? -1;
        if (dot <= 0)
        {
            return null;
        }

        string suffix = name![(dot + 1)..];
        if (suffix is "cold" or "part")
        {
            return name[..dot];
        }

        // cold.0, part.12
        bool isNumber = suffix.Length > 0 && suffix.All(char.IsAsciiDigit);
        string rest = name[..dot];
        return isNumber && (rest.EndsWith(".cold", StringComparison.Ordinal) || rest.EndsWith(".part", StringComparison.Ordinal))
            ? rest[..^5]
            : null;
    }
}
