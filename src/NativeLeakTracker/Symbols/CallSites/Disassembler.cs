using System.Diagnostics.CodeAnalysis;

namespace NativeLeaks.Symbols.CallSites;

/// <summary>An instruction of x86-64.</summary>
/// <param name="Address">Of its first byte.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Flow">Where execution goes after it.</param>
/// <param name="Target">What the flow says it is; else 0.</param>
internal readonly record struct DecodedInstruction(ulong Address, int Length, InstructionFlow Flow, ulong Target)
{
    public ulong End => Address + (ulong)Length;

    public bool IsCall => Flow is InstructionFlow.Call or InstructionFlow.IndirectCall;
}

/// <summary>
/// Iced, out of this assembly's resources and in a load context of its own, so that it never meets an Iced of the program. Loaded
/// by the first use: about a tenth of a second and some megabytes, which a report without questions of this kind does not pay.
/// Thread-safe.
/// </summary>
internal static class Disassembler
{
    private const string Adapter = "NativeLeakTracker.Disassembly";

    private static readonly Lazy<Functions?> s_functions = new(Load);

    private delegate (int Length, int Flow, ulong Target)[] DecodeFunction(byte[] code, ulong address);

    private delegate string[] FormatFunction(byte[] code, ulong address, Func<ulong, string?> nameOf);

    /// <summary>Whether it has been loaded; asking does not load it.</summary>
    public static bool IsLoaded => s_functions.IsValueCreated;

    /// <summary>
    /// Whether it can be loaded: a program can forbid the loading of assemblies, or can have been trimmed of what Iced needs.
    /// </summary>
    public static bool IsAvailable => s_functions.Value is not null;

    /// <summary>Instruction after instruction from the first byte on; empty when it is not available.</summary>
    public static DecodedInstruction[] Decode(ReadOnlySpan<byte> code, ulong address)
    {
        if (code.IsEmpty || s_functions.Value is not { } functions)
        {
            return [];
        }

        (int Length, int Flow, ulong Target)[] decoded = functions.Decode(code.ToArray(), address);
        var result = new DecodedInstruction[decoded.Length];
        for (int index = 0; index < decoded.Length; index++)
        {
            (int length, int flow, ulong target) = decoded[index];
            result[index] = new DecodedInstruction(address, length, (InstructionFlow)flow, target);
            address += (ulong)length;
        }

        return result;
    }

    /// <summary>
    /// The text of each instruction, Intel's way, with the names that the function gives for addresses; empty when not available.
    /// </summary>
    public static string[] Format(ReadOnlySpan<byte> code, ulong address, Func<ulong, string?> nameOf) =>
        code.IsEmpty || s_functions.Value is not { } functions ? [] : functions.Format(code.ToArray(), address, nameOf);

    [SuppressMessage("Design", "CA1031:Do not catch general exception types",
        Justification = "Whatever keeps it from being loaded, a report without it is better than none.")]
    private static Functions? Load()
    {
        try
        {
            Type instructions = CarriedAssemblies.Load(Adapter)
                .GetType("NativeLeaks.Disassembly.Instructions", throwOnError: true)!;
            return new Functions(
                instructions.GetMethod(nameof(Decode))!.CreateDelegate<DecodeFunction>(),
                instructions.GetMethod(nameof(Format))!.CreateDelegate<FormatFunction>());
        }
        catch (Exception)
        {
            return null;
        }
    }

    private sealed record Functions(DecodeFunction Decode, FormatFunction Format);
}
