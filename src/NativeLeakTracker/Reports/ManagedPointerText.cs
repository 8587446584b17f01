namespace NativeLeaks.Reports;

/// <summary>Pointers into the managed heap that native memory keeps, for people.</summary>
internal static class ManagedPointerText
{
    public static void Write(IReadOnlyList<ManagedPointerBug> bugs, TextWriter writer)
    {
        foreach (ManagedPointerBug bug in bugs)
        {
            string blocks = bug.Count == 1 ? "" : $"   in {Amounts.Count(bug.Count, "block")}";
            writer.WriteLine();
            writer.WriteLine($"unpinned pointer: {bug.Description} (at {bug.Address}+0x{bug.Offset:x}){blocks}");
            writer.WriteLine("    the native block was allocated at");
            TextReport.WriteStack(bug.Stack, writer);
        }
    }
}
