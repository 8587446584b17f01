using System.Globalization;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Tests.Native;

/// <summary>The functions that binutils' nm lists, of those that have a size; names without their versions.</summary>
internal static class Nm
{
    public static List<FunctionExtent> Functions(string library, params string[] options)
    {
        var run = ChildProcess.Run("nm", [.. options, "--defined-only", "-S", library]);
        Assert.That(run.ExitCode, Is.Zero, run.Error);
        return
        [
            .. run.Output.Split('\n')
                .Select(line => line.Split(' '))
                .Where(parts => parts is [_, _, "T" or "t" or "W" or "w" or "i", _])
                .Select(parts => new FunctionExtent(parts[3].Split('@')[0], Hex(parts[0]), Hex(parts[1]))),
        ];

        static ulong Hex(string text) => ulong.Parse(text, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }
}
