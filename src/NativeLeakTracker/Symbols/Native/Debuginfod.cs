using System.Collections.Concurrent;
using System.Net;
using System.Runtime.Versioning;
using System.Security.Cryptography;
using NativeLeaks.Files;

namespace NativeLeaks.Symbols.Native;

/// <summary>
/// Fetches debug files from the servers that the settings name, and from no others, into the folder where debuginfod's own client
/// keeps them. Bounded in time and size; what was fetched is checked to be of the build that was asked for.
/// </summary>
internal sealed class Debuginfod(
    SymbolSettings settings, MemoryAllowance memory, SymbolProblems problems, long maxFileBytes = Debuginfod.DefaultMaxFileBytes)
{
    private const long DefaultMaxFileBytes = 1L << 30;
    private const int MaxRedirections = 5, MaxRemembered = 10_000;
    private const UnixFileMode OnlyOwner = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    // A server that does not answer would take its time for each library of the process.
    private static readonly ConcurrentDictionary<string, bool> s_refusals = new();

    public ElfFile? Find(string buildId)
    {
        if (settings.DebuginfodServers.Count == 0 || OperatingSystem.IsWindows() || CacheFolder() is not { } cache)
        {
            return null;
        }

        try
        {
            string folder = Path.Combine(cache, buildId);
            string path = Path.Combine(folder, "debuginfo");
            if (IsLink(folder) || IsLink(path))
            {
                problems.Add(path, "is a link; not followed");
                return null;
            }

            return Open(path, buildId) ?? Fetch(folder, path, buildId);
        }
        catch (Exception e) when (RegularFile.IsFileTrouble(e))
        {
            problems.Add(cache, $"cannot keep what is fetched: {e.Message}");
            return null;
        }
    }

    [UnsupportedOSPlatform("windows")]
    private ElfFile? Fetch(string folder, string path, string buildId)
    {
        foreach (Uri server in settings.DebuginfodServers)
        {
            string name = server.ToString().TrimEnd('/');
            if (s_refusals.ContainsKey(name) || s_refusals.ContainsKey($"{name} {buildId}"))
            {
                continue;
            }

            Directory.CreateDirectory(folder, OnlyOwner | UnixFileMode.UserExecute);
            string temporary = Path.Combine(folder, "debuginfo." + Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(8)));
            try
            {
                // On a thread of the pool, so that nobody's synchronization context is waited for.
                if (Task.Run(() => FetchAsync(name, buildId, temporary)).GetAwaiter().GetResult())
                {
                    if (Open(temporary, buildId) is { } file)
                    {
                        File.Move(temporary, path, overwrite: true);
                        return file;
                    }

                    problems.Add(name, $"sent a file with another build-id than {buildId}");
                }

                Remember($"{name} {buildId}");
            }
            finally
            {
                File.Delete(temporary);
            }
        }

        return null;
    }

    [UnsupportedOSPlatform("windows")]
    private async Task<bool> FetchAsync(string server, string buildId, string temporary)
    {
        using var handler = new SocketsHttpHandler
        {
            MaxAutomaticRedirections = MaxRedirections,
            UseCookies = false,

            // The program's own tracing is not about us.
            ActivityHeadersPropagator = null,
        };
        using var client = new HttpClient(handler) { Timeout = Timeout.InfiniteTimeSpan };
        using var timeout = new CancellationTokenSource(settings.DebuginfodTimeout);
        try
        {
            using HttpResponseMessage response = await client.GetAsync(
                new Uri($"{server}/buildid/{buildId}/debuginfo"), HttpCompletionOption.ResponseHeadersRead, timeout.Token).ConfigureAwait(false);
            if (response.StatusCode != HttpStatusCode.OK)
            {
                if (response.StatusCode != HttpStatusCode.NotFound)
                {
                    problems.Add(server, $"answered {(int)response.StatusCode}");
                }

                return false;
            }

            if (response.Content.Headers.ContentLength > maxFileBytes ||
                !await CopyAsync(response, temporary, timeout.Token).ConfigureAwait(false))
            {
                problems.Add(server, $"sends more than {maxFileBytes >> 20} MB for {buildId}; refused");
                return false;
            }

            return true;
        }
        catch (Exception e) when (e is HttpRequestException or OperationCanceledException or HttpIOException)
        {
            string why = e is OperationCanceledException
                ? $"did not answer within {settings.DebuginfodTimeout.TotalSeconds} seconds"
                : $"cannot be asked: {e.Message}";
            problems.Add(server, why + "; not asked again");
            Remember(server);
            return false;
        }
    }

    [UnsupportedOSPlatform("windows")]
    private async Task<bool> CopyAsync(HttpResponseMessage response, string temporary, CancellationToken cancellation)
    {
        using Stream from = await response.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
        using var to = new FileStream(temporary, new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            UnixCreateMode = OnlyOwner,
            BufferSize = 0,
        });
        byte[] buffer = new byte[128 << 10];
        long total = 0;
        while (await from.ReadAsync(buffer, cancellation).ConfigureAwait(false) is var count and > 0)
        {
            total += count;
            if (total > maxFileBytes)
            {
                return false;
            }

            await to.WriteAsync(buffer.AsMemory(0, count), cancellation).ConfigureAwait(false);
        }

        return true;
    }

    private ElfFile? Open(string path, string buildId)
    {
        ElfFile? file = ElfFile.TryOpen(path, memory, problems);
        if (file is null || file.BuildId == buildId)
        {
            return file;
        }

        file.Dispose();
        return null;
    }

    private string? CacheFolder()
    {
        if (settings.DebuginfodCache is { Length: > 0 } cache)
        {
            return cache;
        }

        string? home = Environment.GetEnvironmentVariable("HOME");
        if (Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } caches)
        {
            return Path.Combine(caches, "debuginfod_client");
        }

        return home is { Length: > 0 } ? Path.Combine(home, ".cache", "debuginfod_client") : null;
    }

    private static bool IsLink(string path) => new FileInfo(path).LinkTarget is not null;

    private static void Remember(string refusal)
    {
        if (s_refusals.Count < MaxRemembered)
        {
            s_refusals[refusal] = true;
        }
    }
}
