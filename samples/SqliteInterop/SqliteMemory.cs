namespace SqliteInterop;

/// <summary>SQLite's own account of the memory that it took from malloc.</summary>
internal static class SqliteMemory
{
    // SQLite puts the size of each block in front of it and does not count those 8 bytes; malloc does.
    private const int BlockHeaderBytes = sizeof(long);

    internal static Unfreed Unfreed
    {
        get
        {
            long blocks = Status(NativeMethods.StatusMallocCount);
            return new Unfreed(blocks, Status(NativeMethods.StatusMemoryUsed) + (blocks * BlockHeaderBytes));
        }
    }

    private static long Status(int what)
    {
        _ = NativeMethods.Status(what, out long current, out _, reset: 0);
        return current;
    }
}
