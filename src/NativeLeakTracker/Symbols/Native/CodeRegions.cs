namespace NativeLeaks.Symbols.Native;

/// <summary>
/// Where a library has machine code. Debug information also describes functions that the linker left out, at addresses like 0
/// where there is none.
/// </summary>
internal sealed class CodeRegions(ElfFile file)
{
    private readonly ElfSegment[] _segments = [.. file.Segments.Where(static segment => segment.IsCode)];

    public bool Holds(ulong address)
    {
        foreach (ref readonly ElfSegment segment in _segments.AsSpan())
        {
            if (segment.Holds(address))
            {
                return true;
            }
        }

        return false;
    }
}
