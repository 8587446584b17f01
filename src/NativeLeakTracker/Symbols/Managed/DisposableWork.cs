using System.Reflection;

namespace NativeLeaks.Symbols.Managed;

/// <summary>
/// Which methods work for a disposable object that their caller has in hand: members of a disposable type, and public
/// factories of one. Releasing it is no such work. A member that is not public stands for a public one that was inlined into the
/// caller: all that is left of <c>new GZipStream()</c> may be a constructor of a class which the framework keeps to itself.
/// </summary>
internal static class DisposableWork
{
    public static bool IsDoneBy(MethodBase method) =>
        method.Name is not (nameof(IDisposable.Dispose) or nameof(IAsyncDisposable.DisposeAsync) or "Close") &&
        typeof(IDisposable).IsAssignableFrom(
            method switch
            {
                MethodInfo { IsStatic: true, IsPublic: true } factory => factory.ReturnType,
                { IsStatic: false } => method.DeclaringType,
                _ => null,
            });

    /// <summary>The same of a method that is known from its assembly's file; false if this process has not loaded that.</summary>
    public static bool IsDoneBy(MethodKey method)
    {
        try
        {
            Assembly? assembly = Array.Find(
                AppDomain.CurrentDomain.GetAssemblies(), a => !a.IsDynamic && a.Location == method.Assembly.Path);
            return assembly?.ManifestModule.ResolveMethod(method.Token) is { } loaded && IsDoneBy(loaded);
        }
        catch (Exception e) when (e is ArgumentException or TypeLoadException or FileNotFoundException
                                      or FileLoadException or BadImageFormatException or NotSupportedException)
        {
            return false;
        }
    }
}
