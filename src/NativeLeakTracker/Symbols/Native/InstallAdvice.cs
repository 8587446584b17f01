using System.Text;
using NativeLeaks.Files;

namespace NativeLeaks.Symbols.Native;

/// <summary>Tells how to get the symbols of a stripped library, as far as the distribution's own lists on this machine say.</summary>
internal sealed class InstallAdvice(string osRelease = "/etc/os-release", string packageLists = "/var/lib/dpkg/info")
{
    private const int MaxLists = 20_000, MaxListBytes = 16 << 20;
    private const long MaxBytes = 128 << 20;

    /// <summary>One line.</summary>
    public string For(string library, string? buildId)
    {
        string what = buildId is null ? "stripped; no build-id" : $"stripped; build-id {buildId}";
        return $"{what}; symbols: {Command(library) ?? Elsewhere(buildId)}";
    }

    private static string Elsewhere(string? buildId) => buildId is null
        ? "build it with -g and without strip"
        : "put its debug file into a folder of NATIVELEAKS_SYMBOL_PATH, or name a server in DEBUGINFOD_URLS";

    private string? Command(string library)
    {
        try
        {
            string path = Path.GetFullPath(library);
            if (File.Exists(path))
            {
                path = new FileInfo(path).ResolveLinkTarget(returnFinalTarget: true)?.FullName ?? path;
            }

            string[] distribution = Distribution();
            if (distribution.Intersect(["debian", "ubuntu"]).Any())
            {
                return PackageOf(path) is { } package ? $"apt-get install {DebugPackage(package)}" : null;
            }

            bool isSystems = path.StartsWith("/usr/", StringComparison.Ordinal) || path.StartsWith("/lib", StringComparison.Ordinal);
            return isSystems && distribution.Intersect(["fedora", "rhel", "centos"]).Any()
                ? $"dnf debuginfo-install $(rpm -qf {path})"
                : null;
        }
        catch (Exception e) when (RegularFile.IsFileTrouble(e))
        {
            return null;
        }
    }

    // Of Debian's packages libc's is the one that has its symbols beside it in the same archive.
    private static string DebugPackage(string package) => package == "libc6" ? "libc6-dbg" : package + "-dbgsym";

    private string[] Distribution()
    {
        byte[] text = ReadAll(osRelease, 1 << 16);
        return
        [
            .. Encoding.UTF8.GetString(text).Split('\n')
                .Select(static line => line.Split('=', 2))
                .Where(static parts => parts is ["ID" or "ID_LIKE", _])
                .SelectMany(static parts => parts[1].Trim().Trim('"', '\'').Split(' ')),
        ];
    }

    private string? PackageOf(string path)
    {
        // A library's package mostly begins like the library; the others are read only when it does not.
        string name = Path.GetFileName(path);
        string stem = name[..Math.Min(name.IndexOfAny(['.', '-']) is var end and > 0 ? end : name.Length, name.Length)];
        string[] lists =
        [
            .. Directory.EnumerateFiles(packageLists, "*.list").Take(MaxLists)
                .OrderBy(list => !Path.GetFileName(list).StartsWith(stem, StringComparison.Ordinal)),
        ];

        // The lists name files by the folder that they were in before /lib became a link to /usr/lib, or by the new one.
        List<byte[]> wanted = [Encoding.UTF8.GetBytes(path)];
        if (path.StartsWith("/usr/", StringComparison.Ordinal))
        {
            wanted.Add(Encoding.UTF8.GetBytes(path[4..]));
        }

        long left = MaxBytes;
        foreach (string list in lists)
        {
            byte[] lines = ReadAll(list, MaxListBytes);
            left -= lines.Length;
            if (wanted.Any(line => HasLine(lines, line)))
            {
                return Path.GetFileNameWithoutExtension(list).Split(':')[0];
            }

            if (left < 0)
            {
                return null;
            }
        }

        return null;
    }

    private static bool HasLine(ReadOnlySpan<byte> text, ReadOnlySpan<byte> line)
    {
        while (text.IndexOf(line) is var at and >= 0)
        {
            int end = at + line.Length;
            if ((at == 0 || text[at - 1] == '\n') && (end == text.Length || text[end] == '\n'))
            {
                return true;
            }

            text = text[end..];
        }

        return false;
    }

    private static byte[] ReadAll(string path, int maxBytes)
    {
        using RegularFile? file = RegularFile.TryOpen(path);
        byte[] bytes = new byte[Math.Min(file?.LengthBytes ?? 0, maxBytes)];
        return file?.TryRead(0, bytes) is true ? bytes : [];
    }
}
