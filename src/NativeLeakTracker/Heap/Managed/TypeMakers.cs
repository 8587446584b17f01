using System.Reflection;
using NativeLeaks.Analysis;
using NativeLeaks.Symbols;

namespace NativeLeaks.Heap.Managed;

/// <summary>Whose a type is.</summary>
internal enum TypeMaker
{
    /// <summary>The program's, or a package's.</summary>
    Program,

    /// <summary>The shared framework's.</summary>
    Framework,

    /// <summary>That of what runs tests. Its objects know the test fixtures.</summary>
    TestRunner,

    /// <summary>The tracker's: what its objects know, they do not hold.</summary>
    Tracker,
}

/// <summary>Whose the types of each of this process's assemblies are.</summary>
internal static class TypeMakers
{
    // ECMA-335 II.22.37: the first row of TypeDef is the pseudo class that every module has.
    private const int ModuleClass = 0x02000001;

    /// <summary>By the runtime's own addresses of modules; those that are not in it are the program's.</summary>
    /// <param name="moduleOf">The module of a type, by the address of its method table; 0: it is not known.</param>
    public static IReadOnlyDictionary<ulong, TypeMaker> OfThisProcess(Func<ulong, ulong> moduleOf)
    {
        var makers = new Dictionary<ulong, TypeMaker>();
        foreach (Assembly assembly in AppDomain.CurrentDomain.GetAssemblies())
        {
            if (Of(assembly) is var maker && maker != TypeMaker.Program && !assembly.IsDynamic)
            {
                makers[moduleOf((ulong)assembly.ManifestModule.ModuleHandle.GetRuntimeTypeHandleFromMetadataToken(ModuleClass).Value)] = maker;
            }
        }

        makers.Remove(0);
        return makers;
    }

    private static TypeMaker Of(Assembly assembly) =>
        assembly == typeof(TypeMakers).Assembly ? TypeMaker.Tracker
        : TestPlatform.Owns(assembly.GetName().Name + ".dll") ? TypeMaker.TestRunner
        : ModuleRoles.OfAssembly(assembly) == ModuleRole.Framework ? TypeMaker.Framework
        : TypeMaker.Program;
}
