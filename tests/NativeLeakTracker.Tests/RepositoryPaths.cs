using System.Reflection;

namespace NativeLeaks.Tests;

/// <summary>Where things lie, as the build wrote it into this assembly.</summary>
internal static class RepositoryPaths
{
    /// <summary>The checkout, with a slash at its end.</summary>
    public static string Root { get; } = Read("RepositoryRoot");

    /// <summary>The folder of the fixture libraries, built from tests/native/fixtures.</summary>
    public static string NativeFixtures { get; } = Read("NativeFixtures");

    /// <summary>The shim as CMake built it, for LD_PRELOAD.</summary>
    public static string Shim { get; } = Read("ShimPath");

    /// <summary>NuGet's folder of restored packages.</summary>
    public static string RestoredPackages { get; } = Read("RestoredPackages");

    /// <summary>A program that was built beside this assembly: the sample, or one of tests/fixtures.</summary>
    public static string ChildProgram(string name) => Read("ChildProgram." + name);

    private static string Read(string key) =>
        typeof(RepositoryPaths).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>()
            .Single(attribute => attribute.Key == key).Value!;
}
