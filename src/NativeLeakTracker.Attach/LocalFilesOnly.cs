using System.Collections.Immutable;
using System.Runtime.InteropServices;
using Microsoft.Diagnostics.Runtime;

namespace NativeLeaks.Attach;

/// <summary>
/// Finds nothing that is not where the process has it: ClrMD's own locator asks symbol servers, and nothing is fetched over the
/// network unless somebody asked for it.
/// </summary>
internal sealed class LocalFilesOnly : IFileLocator
{
    public string? FindPEImage(string fileName, int buildTimeStamp, int imageSize, bool checkProperties) => null;

    public string? FindPEImage(
        string fileName,
        SymbolProperties archivedUnder,
        ImmutableArray<byte> buildIdOrUUID,
        OSPlatform originalPlatform,
        bool checkProperties) => null;
}
