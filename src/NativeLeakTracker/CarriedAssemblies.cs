using System.Reflection;
using System.Runtime.Loader;

namespace NativeLeaks;

/// <summary>
/// Loads what this assembly carries as resources, each adapter with its library into a context of its own, and leaves all others to the
/// default context. Not into the program's: it may have the same libraries in other versions.
/// </summary>
internal sealed class CarriedAssemblies : AssemblyLoadContext
{
    private CarriedAssemblies(string adapter)
        : base(adapter)
    {
    }

    /// <summary>Loads an adapter anew. Throws what the loader throws; a program can forbid it, or can have been trimmed.</summary>
    public static Assembly Load(string adapter) => new CarriedAssemblies(adapter).LoadFromAssemblyName(new AssemblyName(adapter));

    /// <inheritdoc/>
    protected override Assembly? Load(AssemblyName assemblyName)
    {
        using Stream? image = typeof(CarriedAssemblies).Assembly.GetManifestResourceStream($"carried/{assemblyName.Name}.dll");
        return image is null ? null : LoadFromStream(image);
    }
}
