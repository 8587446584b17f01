namespace NativeLeaks.Reports;

/// <summary>Frames as lines of text.</summary>
internal static class StackText
{
    /// <summary>Stacks are printed innermost first, so what a line separates is called by what stands below it.</summary>
    public static void WriteBorder(LeakFrame? inner, LeakFrame outer, TextWriter writer)
    {
        if (inner is not null && inner.Kind != outer.Kind)
        {
            writer.WriteLine(
                inner.Kind == LeakFrameKind.Native
                    ? "    ---- native above, managed below ----"
                    : "    ---- managed above, native below ----");
        }
    }

    public static void WriteFrame(LeakFrame frame, TextWriter writer)
    {
        bool hasLine = frame is { File: not null, Line: not null };
        string offset = frame.Method is not null && frame.Offset is { } bytes && !hasLine ? $"+0x{bytes:x}" : "";
        string module = frame.Method is not null && frame.Module is not null && !(hasLine && frame.Kind == LeakFrameKind.Managed)
            ? "   " + frame.Module
            : "";
        string line = hasLine ? $"   {FileName(frame.File!)}:{frame.Line}" : "";
        string mark = frame switch
        {
            { Approximate: true } => "   (approximate: callers above it may be missing)",
            { Inferred: true } => "   (inferred)",
            { Inlined: true } => "   (inlined)",
            _ => "",
        };
        writer.WriteLine($"    {frame}{offset}{module}{line}{mark}");
        if (frame.Link is not null)
        {
            writer.WriteLine($"        {frame.Link}");
        }

        if (frame.Cut)
        {
            WriteCut(writer);
        }
    }

    // Compilers on other systems leave other separators.
    private static string FileName(string path) => path[(path.LastIndexOfAny(['/', '\\']) + 1)..];

    public static void WriteCut(TextWriter writer) => writer.WriteLine("    ... (outer frames are not known)");
}
