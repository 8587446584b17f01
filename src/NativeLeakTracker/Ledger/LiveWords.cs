namespace NativeLeaks.Ledger;

/// <summary>The live words of a ledger, page by page. For one thread.</summary>
internal abstract class LiveWords : IDisposable
{
    protected const int PageBytes = 4096;
    public const int PerPage = PageBytes / sizeof(ulong);

    /// <summary>Which pages of a chunk were ever written: reading the others would make them present.</summary>
    public abstract bool[] PresentPages(in ChunkEntry chunk);

    /// <summary>One present page. Valid until the next call; of a ledger in memory the words change meanwhile.</summary>
    public abstract ReadOnlySpan<ulong> Page(in ChunkEntry chunk, int page);

    /// <summary>A single word; 0 where nothing was ever written.</summary>
    public abstract ulong Word(in ChunkEntry chunk, int index);

    public abstract void Dispose();
}
