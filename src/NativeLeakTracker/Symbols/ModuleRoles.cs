using System.Reflection;
using System.Runtime.InteropServices;

namespace NativeLeaks.Symbols;

/// <summary>What part a module plays when blame is given: the words of the verdict contract (docs/verdicts.md).</summary>
internal enum ModuleRole
{
    /// <summary>Anybody's library or program.</summary>
    Other,

    /// <summary>libc, the dynamic linker, a C++ runtime: they allocate on behalf of their callers.</summary>
    CRuntime,

    /// <summary>The .NET runtime and its host.</summary>
    DotnetRuntime,

    /// <summary>The shared framework: CoreLib and all that ships with it, managed or native.</summary>
    Framework,
}

internal static class ModuleRoles
{
    private static readonly string[] s_dotnetRuntime =
        ["libcoreclr", "libclrjit", "libclrgc", "libclrgcexp", "libhostfxr", "libhostpolicy", "libmscordaccore", "libmscordbi"];

    private static readonly string[] s_cRuntime =
        ["libc", "ld-linux-x86-64", "libpthread", "libdl", "libstdc++", "libgcc_s", "libc++", "libc++abi", "libm"];

    private static readonly string[] s_usedByFramework = ["libicu", "libcrypto.so", "libssl.so", "liblttng-ust"];

    private static readonly string s_frameworkRoot = RuntimeEnvironment.GetRuntimeDirectory().TrimEnd('/');

    private static readonly string? s_host = Environment.ProcessPath;

    public static ModuleRole OfNative(string path)
    {
        string name = Path.GetFileName(path);
        int dot = name.IndexOf(".so", StringComparison.Ordinal);
        string stem = dot < 0 ? name : name[..dot];
        if (s_cRuntime.Contains(stem) || IsVersionedLibc(stem))
        {
            return ModuleRole.CRuntime;
        }

        if (s_dotnetRuntime.Contains(stem) || path == s_host || name == "dotnet")
        {
            return ModuleRole.DotnetRuntime;
        }

        return IsInFrameworkFolder(path) ? ModuleRole.Framework : ModuleRole.Other;
    }

    /// <summary>Whether one of the .NET runtime's libraries, or the dynamic linker; the program that starts them is none.</summary>
    public static bool IsRuntimeLibrary(string path)
    {
        string name = Path.GetFileName(path);
        int dot = name.IndexOf(".so", StringComparison.Ordinal);
        return IsDynamicLinker(path) || (dot > 0 && s_dotnetRuntime.Contains(name[..dot]));
    }

    /// <summary>
    /// Whether a native library that the framework uses for itself, and that allocates what it keeps: its own, ICU and OpenSSL. Not
    /// libSystem.Native, which allocates for its callers as libc does.
    /// </summary>
    public static bool IsFrameworkLibrary(string path)
    {
        string name = Path.GetFileName(path);
        return (OfNative(path) == ModuleRole.Framework && !name.StartsWith("libSystem.Native.", StringComparison.Ordinal)) ||
            Array.Exists(s_usedByFramework, stem => name.StartsWith(stem, StringComparison.Ordinal));
    }

    /// <summary>Whether the dynamic linker itself, which allocates for its own bookkeeping.</summary>
    public static bool IsDynamicLinker(string path) =>
        Path.GetFileName(path).StartsWith("ld-linux", StringComparison.Ordinal);

    /// <summary>Whether the tracker's shim.</summary>
    public static bool IsTrackers(string path) => Path.GetFileName(path.AsSpan()).StartsWith("libnativeleakshim");

    /// <summary>The tracker's own wrappers stand where the framework's methods would.</summary>
    public static ModuleRole OfAssembly(Assembly? assembly)
    {
        if (assembly is null || assembly == typeof(ModuleRoles).Assembly)
        {
            return ModuleRole.Framework;
        }

        return IsInFrameworkFolder(assembly.IsDynamic ? "" : assembly.Location) || IsSignedByFramework(assembly)
            ? ModuleRole.Framework
            : ModuleRole.Other;
    }

    /// <summary>The same by the assembly's file alone; null: code that is in none is somebody's.</summary>
    public static ModuleRole OfAssemblyFile(string? path) =>
        path is not null && (IsInFrameworkFolder(path) || Path.GetFileName(path) == "NativeLeakTracker.dll")
            ? ModuleRole.Framework
            : ModuleRole.Other;

    private static bool IsInFrameworkFolder(string path) =>
        Path.GetDirectoryName(path) is { Length: > 0 } folder &&
        (folder == s_frameworkRoot || folder.Contains("/shared/Microsoft.", StringComparison.Ordinal));

    private static bool IsVersionedLibc(string stem) =>
        stem.StartsWith("libc-2.", StringComparison.Ordinal) || stem.StartsWith("ld-2.", StringComparison.Ordinal);

    /// <summary>A self-contained program carries the framework in its own folder; then only the key tells.</summary>
    private static bool IsSignedByFramework(Assembly assembly)
    {
        AssemblyName name = assembly.GetName();
        if (name.Name is null || !(name.Name.StartsWith("System.", StringComparison.Ordinal) || name.Name is "System"))
        {
            return false;
        }

        string token = Convert.ToHexStringLower(name.GetPublicKeyToken() ?? []);
        return token is "b03f5f7f11d50a3a" or "b77a5c561934e089" or "7cec85d7bea7798e" or "cc7b13ffcd2ddd51";
    }
}
