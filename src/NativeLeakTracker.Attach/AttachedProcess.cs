using NativeLeaks.Analysis;
using NativeLeaks.Ledger;
using NativeLeaks.Reports;
using NativeLeaks.Symbols;
using NativeLeaks.Symbols.Managed;

namespace NativeLeaks.Attach;

/// <summary>
/// Another live .NET process whose code can be named. It is neither stopped nor changed: its memory is read, or its runtime is
/// asked for a list of its methods. Not thread-safe.
/// </summary>
public sealed class AttachedProcess : IDisposable
{
    /// <summary>The runtime's data structures are read from outside, with ClrMD.</summary>
    public const string ClrMd = "clrmd";

    /// <summary>The runtime listed its methods, through its diagnostics port.</summary>
    public const string Rundown = "rundown";

    private static readonly TimeSpan s_usualTimeout = TimeSpan.FromSeconds(10);
    private readonly TimeSpan _timeout;
    private IManagedCode _code;

    private AttachedProcess(int pid, string source, IManagedCode code, TimeSpan timeout)
    {
        Pid = pid;
        Source = source;
        _code = code;
        _timeout = timeout;
    }

    /// <summary>The process.</summary>
    public int Pid { get; }

    /// <summary>Where names come from: <see cref="ClrMd"/> or <see cref="Rundown"/>.</summary>
    public string Source { get; }

    /// <summary>Events that the runtime could not deliver: as many methods, or places in them, may lack their names.</summary>
    public long LostEvents => (_code as RundownManagedCode)?.LostEvents ?? 0;

    /// <summary>Names the process's managed code. Until <see cref="Refresh"/> or <see cref="Dispose"/>.</summary>
    internal IManagedCode ManagedCode => _code;

    /// <summary>
    /// Looks into a process: by ClrMD where that finds its runtime, or else by what the runtime lists. Takes some tens of
    /// milliseconds, or some hundreds.
    /// </summary>
    /// <param name="pid">The process; not this one.</param>
    /// <param name="timeout">How long its runtime may take for an answer; 10 seconds if nothing is said.</param>
    /// <exception cref="AttachException">It cannot be looked into; the message is one line that says what to do.</exception>
    public static AttachedProcess Open(int pid, TimeSpan? timeout = null) => Open(pid, timeout, only: null);

    internal static AttachedProcess Open(int pid, TimeSpan? timeout, string? only)
    {
        TimeSpan limit = timeout ?? s_usualTimeout;
        TargetProcess target = TargetProcess.Find(pid);
        Exception? reason = null;
        if (only != Rundown && target.RuntimePath is { } runtime && TrustedRuntime.MayBeLoadedFrom(runtime))
        {
            if (LiveManagedCode.TryOpen(pid, out reason) is { } code)
            {
                return new AttachedProcess(pid, ClrMd, code, limit);
            }
        }

        if (only != ClrMd && RundownManagedCode.TryAsk(pid, limit) is { } listed)
        {
            return new AttachedProcess(pid, Rundown, listed, limit);
        }

        throw target.RuntimePath is null
            ? new AttachException(
                $"Process {pid} is no .NET process that can be found: it has no libcoreclr.so and no diagnostics port. " +
                "Name a .NET process; one with another TMPDIR needs the same here, one with DOTNET_EnableDiagnostics=0 cannot be asked.")
            : new AttachException(
                $"The runtime of process {pid} could not be read ({FirstLine(reason)}) and has no diagnostics port. Run as the " +
                "same user with the same TMPDIR, and without DOTNET_EnableDiagnostics=0 in the process.",
                reason);
    }

    /// <summary>
    /// The process's report, from the ledger that <c>NATIVELEAKS_LEDGER</c> has it write into a file: of all that it recorded so
    /// far. Managed frames have the names that the process itself knows, generic arguments included.
    /// </summary>
    /// <param name="ledger">The ledger's file.</param>
    /// <exception cref="AttachException">The ledger is another process's.</exception>
    /// <exception cref="FileNotFoundException">Nothing is there.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    /// <exception cref="InvalidDataException">It is no ledger, damaged, or one of another version; the message says what to do.</exception>
    /// <exception cref="IOException">It cannot be read for another reason.</exception>
    public NativeLeakReport GetReport(string ledger)
    {
        ArgumentException.ThrowIfNullOrEmpty(ledger);
        using LedgerFile file = LedgerFile.Open(ledger);
        return file.Ledger.Header.Pid == (uint)Pid
            ? ReportBuilder.Build(file, SymbolSettings.FromEnvironment(), _code, JudgingRules.Of(NativeLeakOptions.Default))
            : throw new AttachException($"The ledger {ledger} is of process {file.Ledger.Header.Pid}, not of {Pid}: attach to that one.");
    }

    /// <summary>Code that was compiled since the process was opened, or since the last time, is known from now on.</summary>
    /// <exception cref="AttachException">The runtime gave no answer.</exception>
    public void Refresh()
    {
        switch (_code)
        {
            case LiveManagedCode live:
                live.Flush();
                break;
            default:
                RundownManagedCode now = RundownManagedCode.TryAsk(Pid, _timeout)
                    ?? throw new AttachException($"Process {Pid} has ended, or its diagnostics port has gone. Attach to it again.");
                _code.Dispose();
                _code = now;
                break;
        }
    }

    /// <summary>Lets go of the process.</summary>
    public void Dispose() => _code.Dispose();

    private static string FirstLine(Exception? e) =>
        e is null ? "its files may not be loaded here, or were not asked for" : e.Message.Split('\n')[0].Trim().TrimEnd('.');
}
