using System.Buffers.Binary;
using System.Text;
using NativeLeaks.Files;

namespace NativeLeaks.Symbols.Native;

/// <summary>
/// Finds the file that the debug information of a stripped library was moved to: by its build-id, by its .gnu_debuglink, at last
/// from the servers that may be asked. What is found is checked to be of the same build.
/// </summary>
internal sealed class DebugFileSearch(SymbolSettings settings, MemoryAllowance memory, SymbolProblems problems)
{
    private const string SystemFolder = "/usr/lib/debug";
    private const int MaxLinkBytes = 4096;

    // A checksum reads all of a file.
    private const long MaxChecksumBytes = 4L << 30;

    public ElfFile? Find(ElfFile library)
    {
        string id = library.BuildId ?? "";
        foreach (string folder in (IEnumerable<string>)[SystemFolder, .. settings.SearchFolders])
        {
            if (ByBuildId(folder, id) is { } file)
            {
                return file;
            }
        }

        return ByLink(library) ?? (id.Length > 0 ? new Debuginfod(settings, memory, problems).Find(id) : null);
    }

    /// <summary>The file with what a debug file shares with others (made by dwz), as it is named there.</summary>
    public ElfFile? FindSupplement(ElfFile debugFile)
    {
        bool isStandard = debugFile.Has(".debug_sup");
        byte[] section = debugFile.Read(isStandard ? ".debug_sup" : ".gnu_debugaltlink");
        var cursor = new ByteCursor(section, 0, section.Length);
        if (isStandard && (cursor.U16() < 5 || cursor.U8() != 0))
        {
            return null;
        }

        string name = Encoding.UTF8.GetString(cursor.Text());
        ulong idBytes = isStandard ? cursor.Uleb() : (ulong)cursor.Left;
        if (cursor.Failed || name.Length is 0 or > MaxLinkBytes || idBytes is < 2 or > 64 || idBytes > (ulong)cursor.Left)
        {
            problems.Add(debugFile.Path, "the name of its supplement is damaged");
            return null;
        }

        string id = Convert.ToHexStringLower(section.AsSpan(cursor.At, (int)idBytes));
        List<string> places = [Path.Combine(FolderOf(debugFile.Path), name)];
        foreach (string folder in (IEnumerable<string>)[SystemFolder, .. settings.SearchFolders])
        {
            places.Add(BuildIdPath(folder, id));
            places.Add(Path.Combine(folder, ".dwz", Path.GetFileName(name)));
            places.Add(Path.Combine(folder, Path.GetFileName(name)));
        }

        foreach (string place in places)
        {
            if (ElfFile.TryOpen(place, memory, problems) is { } file)
            {
                if ((isStandard ? SupplementChecksum(file) : file.BuildId) == id)
                {
                    return file;
                }

                file.Dispose();
            }
        }

        problems.Add(debugFile.Path, $"its supplement {name} was not found; some names are missing");
        return null;
    }

    private ElfFile? ByBuildId(string folder, string id) =>
        id.Length >= 4 && ElfFile.TryOpen(BuildIdPath(folder, id), memory, problems) is { } file ? Checked(file, id) : null;

    private ElfFile? ByLink(ElfFile library)
    {
        byte[] link = library.Has(".gnu_debuglink") ? library.Read(".gnu_debuglink") : [];
        int end = link.AsSpan().IndexOf((byte)0);
        int checksumAt = (end + 4) & ~3;
        if (end is <= 0 or > MaxLinkBytes || checksumAt + 4 > link.Length)
        {
            return null;
        }

        string name = Encoding.UTF8.GetString(link.AsSpan(0, end));
        uint checksum = BinaryPrimitives.ReadUInt32LittleEndian(link.AsSpan(checksumAt));
        if (name.Contains('/') || name is "." or "..")
        {
            problems.Add(library.Path, "its .gnu_debuglink is not the name of a file");
            return null;
        }

        string beside = FolderOf(library.Path);
        foreach (string place in (IEnumerable<string>)
                 [
                     Path.Combine(beside, name),
                     Path.Combine(beside, ".debug", name),
                     Path.Combine(SystemFolder + beside, name),
                     .. settings.SearchFolders.Select(folder => Path.Combine(folder, name)),
                 ])
        {
            if (ElfFile.TryOpen(place, memory, problems) is not { } file)
            {
                continue;
            }

            // The same build-id says the same, and is not the sum of all bytes.
            bool hasIds = library.BuildId is not null && file.BuildId is not null;
            if (hasIds ? library.BuildId == file.BuildId : ChecksumOf(file) == checksum)
            {
                if (IsUseful(file))
                {
                    return file;
                }
            }
            else
            {
                problems.Add(place, "belongs to another build of the library");
            }

            file.Dispose();
        }

        return null;
    }

    private ElfFile? Checked(ElfFile file, string id)
    {
        if (file.BuildId != id)
        {
            problems.Add(file.Path, "has another build-id than its name says");
        }
        else if (IsUseful(file))
        {
            return file;
        }

        file.Dispose();
        return null;
    }

    // In its place can be a link to the library itself.
    private static bool IsUseful(ElfFile file) => DwarfSections.AreIn(file) || file.Has(".symtab");

    private static string BuildIdPath(string folder, string id) =>
        Path.Combine(folder, ".build-id", id[..2], id[2..] + ".debug");

    private static uint? ChecksumOf(ElfFile file)
    {
        if (file.Length > MaxChecksumBytes)
        {
            return null;
        }

        byte[] buffer = new byte[256 << 10];
        uint crc = 0;
        for (long at = 0; at < file.Length; at += buffer.Length)
        {
            Span<byte> part = buffer.AsSpan(0, (int)Math.Min(buffer.Length, file.Length - at));
            if (!file.TryRead((ulong)at, part))
            {
                return null;
            }

            crc = Crc32.Append(crc, part);
        }

        return crc;
    }

    private static string? SupplementChecksum(ElfFile file)
    {
        byte[] section = file.Read(".debug_sup");
        var cursor = new ByteCursor(section, 0, section.Length);
        cursor.Skip(3);
        cursor.Text();
        ulong count = cursor.Uleb();
        return cursor.Failed || count is 0 or > 64 || count > (ulong)cursor.Left
            ? null
            : Convert.ToHexStringLower(section.AsSpan(cursor.At, (int)count));
    }

    // Where the file really is: a library is often found through a link from its short name.
    private static string FolderOf(string path)
    {
        try
        {
            string full = Path.GetFullPath(path);
            string target = new FileInfo(full).ResolveLinkTarget(returnFinalTarget: true)?.FullName ?? full;
            return Path.GetDirectoryName(target) ?? "/";
        }
        catch (Exception e) when (RegularFile.IsFileTrouble(e))
        {
            return "/";
        }
    }
}
