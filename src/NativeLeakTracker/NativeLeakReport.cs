using NativeLeaks.Analysis;
using NativeLeaks.Ledger;
using NativeLeaks.Reports;
using NativeLeaks.Symbols;

namespace NativeLeaks;

/// <summary>
/// What was found: immutable, detached from the process it describes, safe to keep and to share between threads. Properties
/// are named like the fields of the JSON report (schema <c>nativeleaks-report/1</c>).
/// </summary>
public sealed record NativeLeakReport
{
    /// <summary>Name and version of the JSON form.</summary>
    public string Schema { get; } = "nativeleaks-report/1";

    /// <summary>The process that was recorded.</summary>
    public required ReportedProcess Process { get; init; }

    /// <summary>How it was recorded, and what was lost on the way.</summary>
    public required ReportedCapture Capture { get; init; }

    /// <summary>Everything that the scope covers, leaks or not.</summary>
    public required ReportedTotals Totals { get; init; }

    /// <summary>The leaks, one for each distinct stack, largest first. Empty: nothing leaked.</summary>
    public required IReadOnlyList<LeakGroup> Leaks { get; init; }

    /// <summary>Blocks that are outstanding but reachable from something that lives on; not leaks by default.</summary>
    public required IReadOnlyList<LeakGroup> Kept { get; init; }

    /// <summary>Releases that were wrong: of a block that was free already, of what is no block, or by the wrong
    /// function.</summary>
    public IReadOnlyList<PairingBug> PairingBugs { get; init; } = [];

    /// <summary>
    /// Pointers into the managed heap that outstanding native blocks keep although nothing pins what they point to. They fail an assertion
    /// only with <see cref="NativeLeakOptions.Strict"/>: memory that was never written can hold such a pointer by chance.
    /// </summary>
    public IReadOnlyList<ManagedPointerBug> ManagedPointers { get; init; } = [];

    /// <summary>Outstanding blocks that nobody is blamed for, by reason.</summary>
    public required IReadOnlyList<ExcludedBlocks> Excluded { get; init; }

    /// <summary>What stood in the way of judging, and what to do about it. One line each.</summary>
    public IReadOnlyList<string> Notes { get; init; } = [];

    /// <summary>
    /// Why frames lack names or lines: libraries that are stripped, with their build-id and how to get symbols; debug information
    /// that is damaged. One line each.
    /// </summary>
    public IReadOnlyList<string> SymbolNotes { get; init; } = [];

    /// <summary>Blocks in <see cref="Leaks"/>.</summary>
    public long LeakedBlocks => Leaks.Sum(static g => g.Blocks);

    /// <summary>Bytes in <see cref="Leaks"/>, as the program asked for them.</summary>
    public long LeakedBytes => Leaks.Sum(static g => g.Bytes);

    /// <summary>
    /// The report of another process, alive or dead, from the ledger that <c>NATIVELEAKS_LEDGER</c> had it write into a file: of all
    /// that it recorded, and with the names and lines that the ledger and the program's files tell. The file is read as hostile.
    /// </summary>
    /// <exception cref="FileNotFoundException">Nothing is there.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    /// <exception cref="InvalidDataException">It is no ledger, damaged, or one of another version; the message says what to do.</exception>
    /// <exception cref="IOException">It cannot be read for another reason.</exception>
    public static NativeLeakReport FromLedger(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        using LedgerFile file = LedgerFile.Open(path);
        return ReportBuilder.Build(file, SymbolSettings.FromEnvironment(), live: null, JudgingRules.Of(NativeLeakOptions.Default));
    }

    /// <summary>Writes the report for people.</summary>
    /// <exception cref="IOException">The writer failed.</exception>
    public void WriteText(TextWriter writer) => TextReport.Write(this, writer);

    /// <summary>Writes the report for scripts, as UTF-8 JSON; the stream stays open.</summary>
    /// <exception cref="IOException">The stream failed.</exception>
    public void WriteJson(Stream stream) => JsonReport.Write(this, stream);

    /// <summary>
    /// Writes suppression rules (docs/suppressions.md) that hide the leaks of this report, so that only new ones fail from now on: one
    /// for each method of the owners that allocated, with amounts and stack in a comment.
    /// </summary>
    /// <exception cref="IOException">The writer failed.</exception>
    public void WriteSuppressions(TextWriter writer)
    {
        ArgumentNullException.ThrowIfNull(writer);
        SuppressionWriter.Write(this, writer);
    }

    /// <summary>The same into a new file that only its owner may read; nothing is replaced and no link is followed.</summary>
    /// <exception cref="IOException">Something is there already, or the file cannot be written.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written to.</exception>
    public void WriteSuppressions(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }

        using var writer = new StreamWriter(new FileStream(path, options));
        WriteSuppressions(writer);
    }

    /// <summary>The first line of the text form.</summary>
    public override string ToString() => Summary.Headline(this);

    /// <summary>The text form as one string.</summary>
    public string ToText()
    {
        using var writer = new StringWriter(System.Globalization.CultureInfo.InvariantCulture);
        WriteText(writer);
        return writer.ToString();
    }
}

/// <summary>The process that was recorded.</summary>
/// <param name="Pid">Process id.</param>
/// <param name="Command">Its command line; null of a process that has ended.</param>
/// <param name="Runtime">Version of the .NET runtime; null where it is not known.</param>
/// <param name="Started">When the process started, UTC; of another process, when its recording did.</param>
/// <param name="DurationMs">Milliseconds from the start of the scope to the report; null of a process that has ended.</param>
public sealed record ReportedProcess(int Pid, string? Command, string? Runtime, DateTimeOffset Started, long? DurationMs);

/// <summary>How the process was recorded. Counters cover the whole process, but for <paramref name="ApproximateStacks"/>: that
/// of the scope.</summary>
/// <param name="Mode"><c>preload</c> (from the first instruction), <c>late</c> (from the moment the hooks were installed),
/// or <c>wrappers</c> (no engine on this platform: only what the <c>Tracked*</c> wrappers saw).</param>
/// <param name="Stacks"><c>exact</c>, or <c>approximate</c> where frames may be missing.</param>
/// <param name="Dropped">Allocations that could not be recorded.</param>
/// <param name="Truncated">Stacks that were cut.</param>
/// <param name="ApproximateStacks">Walks in which a frame was found by its frame pointer alone.</param>
/// <param name="UnseenImports">Imports of libc's allocation functions that bypass the hooks.</param>
/// <param name="EndedBy"><c>exit</c> or <c>running</c>; null of a process that ended without a word.</param>
/// <param name="Scope">What the report covers, in words: <c>since Start()</c> or <c>while recording</c>.</param>
public sealed record ReportedCapture(
    string Mode,
    string Stacks,
    long Dropped,
    long Truncated,
    long ApproximateStacks,
    long UnseenImports,
    string? EndedBy,
    string Scope)
{
    /// <summary>
    /// Methods whose debug information or metadata could not be copied or was not understood: their frames may lack lines, or
    /// names once the process has ended.
    /// </summary>
    public long UncopiedCodeInfo { get; init; }

    /// <summary>Releases by the finalizer thread that found no room in their list: nobody is called to account for them.</summary>
    public long UnlistedFinalized { get; init; }

    /// <summary>
    /// Releases that looked wrong (<see cref="NativeLeakReport.PairingBugs"/>) and were let pass, because an allocation or a release
    /// that bypassed the hooks could explain them.
    /// </summary>
    public long UncertainReleases { get; init; }

    /// <summary>Wrong releases that found no room in the list.</summary>
    public long UnlistedReleases { get; init; }
}

/// <summary>Totals of the scope, in blocks and in bytes as the program asked for them.</summary>
/// <param name="LiveBlocks">Blocks outstanding, the runtime's among them.</param>
/// <param name="LiveBytes">Their bytes.</param>
/// <param name="AllocatedBlocks">Blocks allocated since the scope was opened, by anybody in the process.</param>
/// <param name="AllocatedBytes">Their bytes; null where only the wrappers record.</param>
public sealed record ReportedTotals(long LiveBlocks, long LiveBytes, long AllocatedBlocks, long? AllocatedBytes);

/// <summary>Outstanding blocks with one stack.</summary>
/// <param name="Verdict"><c>lost</c>: nothing points to the blocks; <c>undisposed</c>: something could still release them, and nobody did;
/// <c>kept</c>: reachable from what lives on; <c>unclassified</c>: what may hold them could not be looked for, see the report's notes.
/// docs/verdicts.md says more.</param>
/// <param name="Blocks">Number of blocks.</param>
/// <param name="Bytes">Sum of the requested sizes.</param>
/// <param name="SmallestBytes">Smallest requested size.</param>
/// <param name="LargestBytes">Largest requested size.</param>
/// <param name="Api">The interop call that allocated (<c>Marshal.AllocHGlobal</c>), the native function that was called, or what was
/// marshalled.</param>
/// <param name="Allocator">Whose code called the allocation function.</param>
/// <param name="Owner">Who is answerable: the first assembly going outwards that is not part of the framework.</param>
/// <param name="Stack">Frames, innermost first.</param>
/// <param name="Addresses">Some of the blocks, as hexadecimal addresses.</param>
public sealed record LeakGroup(
    string Verdict,
    long Blocks,
    long Bytes,
    long SmallestBytes,
    long LargestBytes,
    string? Api,
    string? Allocator,
    string? Owner,
    IReadOnlyList<LeakFrame> Stack,
    IReadOnlyList<string> Addresses)
{
    /// <summary>The P/Invoke declaration through which native code was reached; null when none was, or it is not known.</summary>
    public string? Import { get; init; }

    /// <summary>
    /// What the verdict rests on; of <c>undisposed</c>: held by a <c>stack</c> or register, by a <c>handle</c>, or by <c>thread</c> storage
    /// only; or <c>finalizer</c>: the finalizer thread released the blocks, or is going to, because nobody had disposed what owned
    /// them. Null for other verdicts.
    /// </summary>
    public string? How { get; init; }

    /// <summary>The type whose finalizer released the blocks, where that can be told.</summary>
    public string? FinalizedType { get; init; }

    /// <summary>
    /// What holds the blocks, outermost first, as the source reads: <c>static Cache.Instance -> SafeStatement.handle -> block</c>. The
    /// ways to some of the blocks, each text once. Empty where nothing holds them, or nothing was looked for.
    /// </summary>
    public IReadOnlyList<string> Holders { get; init; } = [];

    /// <summary>Collections that the oldest of the blocks has survived, those of the judgement itself left out; null: not known.</summary>
    public long? CollectionsSurvived { get; init; }

    /// <summary>The same of the youngest.</summary>
    public long? FewestCollectionsSurvived { get; init; }

    /// <summary>When the first of the blocks was allocated, to the last collection or start of a scope before; null: not known.</summary>
    public DateTimeOffset? FirstAllocated { get; init; }

    /// <summary>The same of the last.</summary>
    public DateTimeOffset? LastAllocated { get; init; }

    /// <summary>Of an assertion about growth: blocks that each measured round left behind. Else null.</summary>
    public IReadOnlyList<long>? BlocksPerRound { get; init; }

    /// <summary>What to do about it, in a sentence; null where nothing is known.</summary>
    public string? Advice { get; init; }
}

/// <summary>A release that was wrong.</summary>
/// <param name="Kind"><c>doubleFree</c>: the block had been released already; <c>notABlock</c>: the address is not the start of a
/// block; <c>wrongFunction</c>: the block is of another family of functions.</param>
/// <param name="Address">What was released, as a hexadecimal address.</param>
/// <param name="Count">How often it happened with the same stacks.</param>
/// <param name="Description">What happened, in a sentence.</param>
/// <param name="Stack">Frames of the wrong release, innermost first.</param>
public sealed record PairingBug(
    string Kind, string Address, long Count, string Description, IReadOnlyList<LeakFrame> Stack)
{
    /// <summary>Where the block was allocated; empty where that is not known.</summary>
    public IReadOnlyList<LeakFrame> AllocationStack { get; init; } = [];

    /// <summary>Of a double free: where the block was released first. Else empty.</summary>
    public IReadOnlyList<LeakFrame> FirstReleaseStack { get; init; } = [];
}

/// <summary>A pointer into the managed heap that native memory keeps and must not.</summary>
/// <param name="Address">The native block, as a hexadecimal address.</param>
/// <param name="Offset">Where in it the pointer stands, in bytes.</param>
/// <param name="Count">Blocks with the same stack and the same pointer.</param>
/// <param name="Target">What it leads to.</param>
/// <param name="Description">What is wrong, and what to do, in sentences.</param>
/// <param name="Stack">Where the block was allocated, innermost frame first.</param>
public sealed record ManagedPointerBug(
    string Address, long Offset, long Count, string Target, string Description, IReadOnlyList<LeakFrame> Stack);

/// <summary>What a frame belongs to.</summary>
public enum LeakFrameKind
{
    /// <summary>Code of a native library.</summary>
    Native,

    /// <summary>A managed method.</summary>
    Managed,

    /// <summary>The .NET runtime itself: its libraries and the stubs that it generates.</summary>
    Runtime,
}

/// <summary>One frame of a stack.</summary>
/// <param name="Kind">What it belongs to.</param>
/// <param name="Method">Type, method and parameter types as the source has them; or the native function, demangled; or null
/// where nothing is known.</param>
/// <param name="Module">File name of the assembly or library; null where nothing is known.</param>
public sealed record LeakFrame(LeakFrameKind Kind, string? Method, string? Module)
{
    /// <summary>
    /// The name as the file has it, where <see cref="Method"/> reads otherwise: the method of a state machine, a mangled name.
    /// Null where they are the same.
    /// </summary>
    public string? Symbol { get; init; }

    /// <summary>Bytes into the function, or into the module where the function is not known. Null for managed frames.</summary>
    public long? Offset { get; init; }

    /// <summary>Source file, with its folder where that is known; null without debug information.</summary>
    public string? File { get; init; }

    /// <summary>Line in <see cref="File"/>; null where it is not known.</summary>
    public int? Line { get; init; }

    /// <summary>Where the source can be read, if the debug information carries SourceLink.</summary>
    public string? Link { get; init; }

    /// <summary>
    /// Where in the process the frame returns to, as the process sees it; null for a frame that was put back.
    /// </summary>
    public ulong? Address { get; init; }

    /// <summary>The compiler inlined the function into the next frame; the debug information says so.</summary>
    public bool Inlined { get; init; }

    /// <summary>
    /// Not on the stack, but put back: the call in the next frame leads to the frame before by this function alone, which was
    /// left by a jump or inlined.
    /// </summary>
    public bool Inferred { get; init; }

    /// <summary>Found by a frame pointer alone: frames between this one and the one above may be missing.</summary>
    public bool Approximate { get; init; }

    /// <summary>Frames outside this one could not be found or were too many.</summary>
    public bool Cut { get; init; }

    /// <summary>The method, or module and offset, as one text.</summary>
    public override string ToString() => Method ?? (Module is null ? "?" : $"{Module}+0x{Offset ?? 0:x}");
}

/// <summary>Outstanding blocks that nobody is blamed for.</summary>
/// <param name="Reason"><c>runtime</c>: the .NET runtime's own; <c>suppressed</c>: matched by a rule;
/// <c>ignored</c>: allocated in a region that is to be ignored; <c>otherScope</c>: allocated by threads
/// outside the scope's flow; <c>limit</c>: within the limits for one stack; <c>filter</c>: not asked for by the options.</param>
/// <param name="Rule">The rule that matched, where there is one.</param>
/// <param name="Blocks">Number of blocks.</param>
/// <param name="Bytes">Sum of the requested sizes.</param>
public sealed record ExcludedBlocks(string Reason, string? Rule, long Blocks, long Bytes)
{
    /// <summary>Where a suppression stands: <c>options</c>, file and line, or <c>built in</c> with the reason. Null for other
    /// reasons.</summary>
    public string? Origin { get; init; }
}
