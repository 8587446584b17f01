using System.Runtime.InteropServices;

namespace NativeLeaks.Heap;

/// <summary>
/// The dynamic linker's descriptions of loaded libraries (link.h: struct link_map), which it allocates by malloc once there is one. Each library's
/// second entry of .got.plt refers to its own.
/// </summary>
internal static class LinkMaps
{
    private const ulong FirstInDebug = 8;
    private const ulong NextInMap = 24;
    private const int MaxLibraries = 1 << 16;

    private static readonly Lazy<ulong> s_debug = new(static () =>
        NativeLibrary.TryGetExport(NativeLibrary.GetMainProgramHandle(), "_r_debug", out nint address) ? (ulong)address : 0);

    /// <summary>Their addresses in a copy of this process; none where the linker does not tell.</summary>
    public static IEnumerable<ulong> Of(FrozenMemory memory)
    {
        ulong map = s_debug.Value != 0 && memory.TryReadWord(s_debug.Value + FirstInDebug, out ulong first) ? first : 0;
        for (int count = 0; map != 0 && count < MaxLibraries; count++)
        {
            yield return map;
            map = memory.TryReadWord(map + NextInMap, out ulong next) ? next : 0;
        }
    }
}
