using System.Diagnostics.Tracing;
using Microsoft.Diagnostics.NETCore.Client;
using Microsoft.Diagnostics.Tracing;
using Microsoft.Diagnostics.Tracing.Parsers;
using Microsoft.Diagnostics.Tracing.Parsers.Clr;
using NativeLeaks.Symbols.Managed;

namespace NativeLeaks.Attach;

/// <summary>
/// Names code of another process by the list that its runtime gives of all its methods when an event session ends. Works where
/// nothing can be read from outside, as in a single-file program. What is compiled afterwards is not known. Not thread-safe.
/// </summary>
internal sealed class RundownManagedCode : IManagedCode
{
    private const string Provider = "Microsoft-Windows-DotNETRuntime";

    // Of modules, of jitted and precompiled methods, of places in their IL; with the marks where the list begins and ends.
    private const long RundownKeywords = 0x20178;

    // At most; the runtime drops what it cannot keep until we have read it.
    private const int BufferMegabytes = 256;

    private readonly MethodBody[] _bodies;
    private readonly Dictionary<MethodBody, string> _names = [];

    private RundownManagedCode(MethodBody[] bodies, long lostEvents)
    {
        _bodies = bodies;
        LostEvents = lostEvents;
    }

    /// <summary>What the runtime could not deliver.</summary>
    public long LostEvents { get; }

    /// <summary>Null: nobody listens there.</summary>
    /// <exception cref="AttachException">The runtime gave no answer, or not in time.</exception>
    public static RundownManagedCode? TryAsk(int pid, TimeSpan timeout)
    {
        using var cancellation = new CancellationTokenSource(timeout);
        try
        {
            // On a thread of its own: a runtime that is stopped may hold up even what can be cancelled.
            Task<RundownManagedCode> asking = Task.Run(() => Ask(pid, cancellation.Token));
            if (asking.Wait(timeout + TimeSpan.FromSeconds(1)))
            {
                return asking.Result;
            }
        }
        catch (AggregateException e) when (e.InnerException is AttachException inner)
        {
            throw inner;
        }
        catch (AggregateException e) when (e.InnerException is ServerNotAvailableException)
        {
            return null;
        }
        catch (AggregateException e) when (e.InnerException is UnsupportedCommandException or UnsupportedProtocolException)
        {
            throw new AttachException($"The runtime of process {pid} is too old. It needs .NET 5 or newer.", e.InnerException);
        }
        catch (AggregateException e) when (e.InnerException is not OperationCanceledException && !cancellation.IsCancellationRequested)
        {
            throw new AttachException(
                $"The runtime of process {pid} could not be asked ({e.InnerException!.Message.Split('\n')[0].TrimEnd('.')}). " +
                "Run as the user that it runs as, and see whether it still lives.",
                e.InnerException);
        }
        catch (AggregateException)
        {
            // Cancelled: below.
        }

        throw new AttachException(
            $"The runtime of process {pid} gave no answer within {timeout.TotalSeconds:0.#} s: it is stopped, or very busy. " +
            "Let it go on (kill -CONT), or allow more time.");
    }

    public ManagedPlace? Find(ulong address)
    {
        int low = 0, high = _bodies.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            MethodBody body = _bodies[middle];
            if (address < body.Start)
            {
                high = middle - 1;
            }
            else if (address - body.Start >= body.Size)
            {
                low = middle + 1;
            }
            else
            {
                return Describe(body, address);
            }
        }

        return null;
    }

    public void Dispose()
    {
        // Nothing is kept of the process.
    }

    private ManagedPlace Describe(MethodBody body, ulong address)
    {
        if (!_names.TryGetValue(body, out string? name))
        {
            _names[body] = name = body.Describe();
        }

        return new ManagedPlace(name, body.ModulePath, body.Token, body.IlOffset((uint)(address - body.Start)), body.IsStub);
    }

    private static async Task<RundownManagedCode> Ask(int pid, CancellationToken cancellation)
    {
        var client = new DiagnosticsClient(pid);
        using EventPipeSession session = await Start(client, cancellation).ConfigureAwait(false);

        // Closes the stream under whoever reads it.
        using CancellationTokenRegistration closing = cancellation.Register(session.Dispose);
        Task<RundownManagedCode> reading = Task.Run(() => Read(session.EventStream), CancellationToken.None);
        await session.StopAsync(cancellation).ConfigureAwait(false);
        RundownManagedCode code = await reading.ConfigureAwait(false);
        cancellation.ThrowIfCancellationRequested();
        return code._bodies.Length > 0
            ? code
            : throw new AttachException($"The runtime of process {pid} listed no methods: it may have ended meanwhile. Try again.");
    }

    private static async Task<EventPipeSession> Start(DiagnosticsClient client, CancellationToken cancellation)
    {
        EventPipeProvider[] providers = [new(Provider, EventLevel.Informational, keywords: 0)];
        try
        {
            return await client.StartEventPipeSessionAsync(
                new EventPipeSessionConfiguration(providers, BufferMegabytes, RundownKeywords, requestStackwalk: false),
                cancellation).ConfigureAwait(false);
        }
        catch (UnsupportedCommandException)
        {
            // Before .NET 9 the list cannot be chosen from: all of it.
            return await client.StartEventPipeSessionAsync(
                new EventPipeSessionConfiguration(providers, BufferMegabytes, requestRundown: true, requestStackwalk: false),
                cancellation).ConfigureAwait(false);
        }
    }

    private static RundownManagedCode Read(Stream stream)
    {
        using var source = new EventPipeEventSource(stream);
        var rundown = new ClrRundownTraceEventParser(source);
        var bodies = new List<MethodBody>();
        var modules = new Dictionary<long, string>();
        (int Thread, long Method, int[] Map) last = default;
        rundown.LoaderModuleDCStop += module => modules[module.ModuleID] = module.ModuleILPath;

        // A map does not say of which body of its method it is; the runtime sends it right before that body.
        rundown.MethodILToNativeMapDCStop += map => last = (map.ThreadID, map.MethodID, MethodBody.ReadMap(map));
        rundown.MethodDCStopVerbose += method =>
        {
            bodies.Add(new MethodBody(method, last.Thread == method.ThreadID && last.Method == method.MethodID ? last.Map : null));
            last = default;
        };
        source.Process();

        foreach (MethodBody body in bodies)
        {
            body.ModulePath = modules.GetValueOrDefault(body.Module) is { Length: > 0 } path ? path : null;
        }

        return new RundownManagedCode([.. bodies.Where(static body => body.Size > 0).OrderBy(static body => body.Start)], source.EventsLost);
    }
}
