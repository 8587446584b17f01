using System.Reflection;
using System.Runtime.Loader;

namespace NativeLeaks.Files;

/// <summary>
/// Assemblies that this one carries as resources, in a load context of their own, so that they never meet other versions of
/// themselves in the program. All others are left to the default context.
/// </summary>
internal sealed class CarriedAssemblies : AssemblyLoadContext
{
    private CarriedAssemblies(string adapter)
        : base(adapter)
    {
    }

    /// <summary>
    /// A type of an adapter. Throws whatever keeps it from being loaded: a program can forbid the loading of assemblies, or can have
    /// been trimmed of what they need.
    /// </summary>
    public static Type Load(string adapter, string type) =>
        new CarriedAssemblies(adapter).LoadFromAssemblyName(new AssemblyName(adapter)).GetType(type, throwOnError: true)!;

    /// <inheritdoc/>
    protected override Assembly? Load(AssemblyName assemblyName)
    {
        using Stream? image = typeof(CarriedAssemblies).Assembly.GetManifestResourceStream($"carried/{assemblyName.Name}.dll");
        return image is null ? null : LoadFromStream(image);
    }
}
