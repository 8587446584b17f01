using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using NativeLeaks.Symbols;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Tests.Native;

/// <summary>Debug files from servers: only when they are asked for, of the right build only, and within bounds.</summary>
[TestFixture]
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed class DebuginfodTests
{
    private static readonly TimeSpan s_hang = TimeSpan.FromSeconds(60);

    [Test]
    public void Nothing_is_asked_for_unless_the_settings_name_a_server()
    {
        using var files = new StrippedLibrary();
        using var server = new Server(_ => NotFound);
        Environment.SetEnvironmentVariable("DEBUGINFOD_URLS", server.Address.ToString());
        try
        {
            Assert.That(files.Walk(SymbolSettings.None).File, Is.Null);
        }
        finally
        {
            Environment.SetEnvironmentVariable("DEBUGINFOD_URLS", null);
        }

        Assert.That(server.Requests, Is.Empty);

        // The same server is asked when it is named: it could have been.
        Assert.That(files.Walk(files.Asking(server)).File, Is.Null);
        Assert.That(server.Requests, Is.EqualTo((string[])[$"/buildid/{files.BuildId}/debuginfo"]));
    }

    [Test]
    public void What_was_fetched_is_kept_where_debuginfod_looks_and_is_not_fetched_again()
    {
        using var files = new StrippedLibrary();
        using var server = new Server(_ => Ok(File.ReadAllBytes(files.DebugFile)));

        Assert.That(files.Walk(files.Asking(server)).File, Does.EndWith("counters.c"));
        Assert.That(files.Walk(files.Asking(server)).File, Does.EndWith("counters.c"));

        Assert.That(server.Requests, Has.Count.EqualTo(1));
        Assert.That(Directory.GetFiles(files.CacheOfBuild), Is.EqualTo((string[])[Path.Combine(files.CacheOfBuild, "debuginfo")]));
        Assert.That(
            File.GetUnixFileMode(Path.Combine(files.CacheOfBuild, "debuginfo")), Is.EqualTo(UnixFileMode.UserRead | UnixFileMode.UserWrite));
    }

    [Test]
    public void File_of_another_build_is_refused_and_not_kept()
    {
        using var files = new StrippedLibrary();
        using var server = new Server(_ => Ok(File.ReadAllBytes(SymbolLibraries.PathOf("dwarf4", "symbols_c"))));

        Assert.That(files.Walk(files.Asking(server), "another build-id").File, Is.Null);
        Assert.That(Directory.GetFiles(files.CacheOfBuild), Is.Empty);
    }

    [Test]
    public void Server_that_does_not_have_it_is_asked_once()
    {
        using var files = new StrippedLibrary();
        using var server = new Server(_ => NotFound);

        files.Walk(files.Asking(server));
        files.Walk(files.Asking(server));

        Assert.That(server.Requests, Has.Count.EqualTo(1));
    }

    [Test]
    public void Body_without_an_end_is_cut_off()
    {
        using var files = new StrippedLibrary();
        using var server = new Server(_ => Encoding.ASCII.GetBytes("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"), isEndless: true);
        var problems = new SymbolProblems();
        var fetch = new Debuginfod(files.Asking(server), new MemoryAllowance(), problems, maxFileBytes: 1 << 20);

        var run = Task.Run(() => fetch.Find(files.BuildId));

        Assert.That(run.Wait(s_hang), Is.True, "hangs");
        Assert.That(run.Result, Is.Null);
        Assert.That(problems.Lines, Has.Some.Contains("sends more than 1 MB"));
        Assert.That(Directory.GetFiles(files.CacheOfBuild), Is.Empty);
    }

    [Test]
    public void Server_that_does_not_answer_is_given_up_for_good()
    {
        using var files = new StrippedLibrary();
        using var server = new Server(_ => null);
        var settings = files.Asking(server) with { DebuginfodTimeout = TimeSpan.FromSeconds(1) };

        Assert.That(files.Walk(settings, "did not answer").File, Is.Null);
        var other = new Debuginfod(settings, new MemoryAllowance(), new SymbolProblems()).Find(new string('a', 40));

        Assert.That(other, Is.Null);
        Assert.That(server.Requests, Has.Count.EqualTo(1));
    }

    [Test]
    public void Redirections_in_a_circle_are_followed_a_few_times()
    {
        using var files = new StrippedLibrary();
        using var server = new Server(
            path => Encoding.ASCII.GetBytes($"HTTP/1.1 302 Found\r\nLocation: {path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));

        Assert.That(files.Walk(files.Asking(server), "answered 302").File, Is.Null);
        Assert.That(server.Requests, Has.Count.InRange(2, 10));
    }

    [Test]
    public void Links_in_the_cache_are_not_followed()
    {
        using var files = new StrippedLibrary();
        using var server = new Server(_ => Ok(File.ReadAllBytes(files.DebugFile)));
        Directory.CreateDirectory(files.CacheOfBuild);
        var victim = files.DebugFile + ".victim";
        File.WriteAllText(victim, "untouched");
        File.CreateSymbolicLink(Path.Combine(files.CacheOfBuild, "debuginfo"), victim);

        Assert.That(files.Walk(files.Asking(server), "is a link").File, Is.Null);
        Assert.That(File.ReadAllText(victim), Is.EqualTo("untouched"));
        Assert.That(server.Requests, Is.Empty);
    }

    [Test]
    public void Debuginfod_itself_serves_what_is_asked_for()
    {
        if (!File.Exists("/usr/bin/debuginfod"))
        {
            Assert.Ignore("debuginfod is not installed (package debuginfod)");
        }

        using var files = new StrippedLibrary();
        var port = FreePort();
        var start = new ProcessStartInfo("debuginfod", ["-F", "-p", $"{port}", "-d", files.DebugFile + ".sqlite", Path.GetDirectoryName(files.DebugFile)!])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment.Remove("DEBUGINFOD_URLS");
        using var process = Process.Start(start)!;
        process.OutputDataReceived += (_, _) => { };
        process.ErrorDataReceived += (_, _) => { };
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        try
        {
            var address = new Uri($"http://127.0.0.1:{port}");
            WaitUntilScanned(new Uri(address, $"/buildid/{files.BuildId}/debuginfo"), process);

            Assert.That(files.Walk(files.Asking(address)).File, Does.EndWith("counters.c"));
            Assert.That(File.Exists(Path.Combine(files.CacheOfBuild, "debuginfo")), Is.True);
        }
        finally
        {
            process.Kill();
            process.WaitForExit();
        }
    }

    private static void WaitUntilScanned(Uri file, Process process)
    {
        using var client = new HttpClient();
        var time = Stopwatch.StartNew();
        while (time.Elapsed < s_hang && !process.HasExited)
        {
            try
            {
                if (client.GetAsync(file).Result.IsSuccessStatusCode)
                {
                    return;
                }
            }
            catch (AggregateException)
            {
                // It does not listen yet.
            }

            Thread.Sleep(100);
        }

        Assert.Fail("debuginfod did not find the debug file");
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private static byte[] NotFound { get; } = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"u8.ToArray();

    private static byte[] Ok(byte[] body) =>
        [.. Encoding.ASCII.GetBytes($"HTTP/1.1 200 OK\r\nContent-Length: {body.Length}\r\nConnection: close\r\n\r\n"), .. body];

    /// <summary>A library without symbols, its debug file where nobody looks, and an empty cache.</summary>
    private sealed class StrippedLibrary : IDisposable
    {
        private readonly TemporaryFolder _folder = new();
        private readonly string _library;

        public StrippedLibrary()
        {
            DebugFile = _folder.File("store/some.debug");
            _library = SymbolLibraries.Split(
                SymbolLibraries.PathOf("plain", "symbols_c"), _folder.File("lib"), DebugFile, "--strip-all");
            using var symbols = NativeSymbols.Open(_library, SymbolSettings.None);
            BuildId = symbols.BuildId!;
        }

        public string DebugFile { get; }

        public string BuildId { get; }

        public string CacheOfBuild => Path.Combine(_folder.File("cache"), BuildId);

        public SymbolSettings Asking(Server server) => Asking(server.Address);

        public SymbolSettings Asking(Uri address) => new() { DebuginfodServers = [address], DebuginfodCache = _folder.File("cache") };

        public SourceFrame Walk(SymbolSettings settings, string? problem = null)
        {
            var run = Task.Run(() =>
            {
                using var symbols = NativeSymbols.Open(_library, settings);
                var frame = symbols.Find(symbols.AddressOf("counters_walk")!.Value)[^1];
                if (problem is not null)
                {
                    Assert.That(symbols.Problems, Has.Some.Contains(problem));
                }

                return frame;
            });
            Assert.That(run.Wait(s_hang), Is.True, "hangs");
            return run.Result;
        }

        public void Dispose() => _folder.Dispose();
    }

    /// <summary>Answers each request with given bytes, or never; counts what it was asked for.</summary>
    private sealed class Server : IDisposable
    {
        private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        private readonly List<string> _requests = [];
        private readonly List<TcpClient> _silent = [];
        private readonly Func<string, byte[]?> _answer;
        private readonly bool _isEndless;

        public Server(Func<string, byte[]?> answer, bool isEndless = false)
        {
            _answer = answer;
            _isEndless = isEndless;
            _listener.Start();
            Address = new Uri($"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}");
            new Thread(Serve) { IsBackground = true }.Start();
        }

        public Uri Address { get; }

        public List<string> Requests
        {
            get
            {
                lock (_requests)
                {
                    return [.. _requests];
                }
            }
        }

        public void Dispose()
        {
            _listener.Stop();
            lock (_requests)
            {
                _silent.ForEach(client => client.Dispose());
            }
        }

        private void Serve()
        {
            try
            {
                while (true)
                {
                    Answer(_listener.AcceptTcpClient());
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException or InvalidOperationException)
            {
                // Stopped.
            }
        }

        private void Answer(TcpClient client)
        {
            try
            {
                using var reader = new StreamReader(client.GetStream(), leaveOpen: true);
                var path = reader.ReadLine()!.Split(' ')[1];
                while (reader.ReadLine() is { Length: > 0 })
                {
                    // The headers do not matter.
                }

                lock (_requests)
                {
                    _requests.Add(path);
                    if (_answer(path) is not { } answer)
                    {
                        _silent.Add(client);
                        return;
                    }

                    client.GetStream().Write(answer);
                }

                var more = new byte[64 << 10];
                while (_isEndless)
                {
                    client.GetStream().Write(more);
                }

                client.Dispose();
            }
            catch (IOException)
            {
                // The client has had enough.
                client.Dispose();
            }
        }
    }
}
