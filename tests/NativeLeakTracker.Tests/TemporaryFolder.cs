namespace NativeLeaks.Tests;

/// <summary>An empty folder that goes away with all that is in it.</summary>
internal sealed class TemporaryFolder : IDisposable
{
    private readonly string _path = Directory.CreateTempSubdirectory("nativeleaks-test-").FullName;

    public string File(string name) => Path.Combine(_path, name);

    public IEnumerable<string> Files => Directory.EnumerateFileSystemEntries(_path).Select(file => Path.GetFileName(file));

    public void Dispose() => Directory.Delete(_path, recursive: true);
}
