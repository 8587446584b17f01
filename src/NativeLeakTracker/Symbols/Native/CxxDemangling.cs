using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;

namespace NativeLeaks.Symbols.Native;

/// <summary>
/// C++ names (Itanium ABI) by the C++ runtime's own <c>__cxa_demangle</c>. The .NET runtime is written in C++, so it is there;
/// where it is linked in statically, names stay mangled.
/// </summary>
internal static unsafe partial class CxxDemangling
{
    // The bound is a rough one: the longest names of real programs come to some hundred thousand.
    private const long MaxCost = 2_000_000;

    // Of a form that the bound does not know, n references give at most about 3^(n/3) parts; and a pack repeats its pattern for each
    // argument, and the packs within its pattern with it.
    private const int MaxReferences = 30, MaxPacks = 6, MaxPacksOfMore = 1;

    private static readonly delegate* unmanaged<byte*, byte*, nuint*, int*, byte*> s_demangle = Find();

    /// <summary>The name with its parameters; null when it is no C++ name or not a harmless one.</summary>
    public static string? Demangle(string name)
    {
        // The C code recurses, by less than the stack that this asks for.
        if (s_demangle == null || !IsHarmless(name) || !RuntimeHelpers.TryEnsureSufficientExecutionStack())
        {
            return null;
        }

        int status;
        byte* demangled;
        fixed (byte* mangled = Encoding.UTF8.GetBytes(name + '\0'))
        {
            demangled = s_demangle(mangled, null, null, &status);
        }

        try
        {
            return status == 0 && demangled != null ? Text(demangled) : null;
        }
        finally
        {
            NativeMemory.Free(demangled);
        }
    }

    private static string? Text(byte* text)
    {
        ReadOnlySpan<byte> bytes = MemoryMarshal.CreateReadOnlySpanFromNullTerminated(text);
        return bytes.Length <= Demangler.MaxDemangledLength ? Encoding.UTF8.GetString(bytes) : null;
    }

    // What prints the names has no limit of its own.
    private static bool IsHarmless(string name) =>
        Ascii.IsValid(name) && !name.Contains('\0') &&
        (CxxNameCost.Of(name, MaxCost) is { } cost ? cost <= MaxCost : IsSimple(name));

    private static bool IsSimple(string name) =>
        References().Count(name) <= MaxReferences &&
        Packs().Count(name) <= MaxPacks &&
        PacksOfMore().Count(name) <= MaxPacksOfMore;

    // The first parts are S_, S0_, S1_ ..., the arguments of a template T_, T0_, T1_ ...
    [GeneratedRegex("[ST][0-9A-Z]*_", RegexOptions.CultureInvariant)]
    private static partial Regex References();

    [GeneratedRegex("Dp|sp", RegexOptions.CultureInvariant)]
    private static partial Regex Packs();

    [GeneratedRegex("(Dp|sp)(?![PROKV]*T[0-9A-Z]*_)", RegexOptions.CultureInvariant)]
    private static partial Regex PacksOfMore();

    private static delegate* unmanaged<byte*, byte*, nuint*, int*, byte*> Find() =>
        NativeLibrary.TryLoad("libstdc++.so.6", out nint library) &&
        NativeLibrary.TryGetExport(library, "__cxa_demangle", out nint demangle)
            ? (delegate* unmanaged<byte*, byte*, nuint*, int*, byte*>)demangle
            : null;
}
