using System.Text.Json;

namespace NativeLeaks.Tests;

/// <summary>A leak of a JSON report, as far as tests look at it.</summary>
internal sealed record JsonLeak(
    string? Api, string? Allocator, string? Owner, long Blocks, long Bytes, IReadOnlyList<string> Stack);

/// <summary>A JSON report as a script would read it: by the names of the contract, nothing of the library's own.</summary>
internal sealed class JsonReportFile
{
    private JsonReportFile(JsonElement root)
    {
        Root = root;
        Leaks = [.. OutstandingElements.Select(ReadLeak)];
    }

    public JsonElement Root { get; }

    /// <summary>What is outstanding, leaks and what is kept: the tests that use this are not about who holds a block.</summary>
    public IReadOnlyList<JsonLeak> Leaks { get; }

    public IEnumerable<JsonElement> OutstandingElements =>
        Root.GetProperty("leaks").EnumerateArray().Concat(Root.GetProperty("kept").EnumerateArray());

    public JsonElement Capture => Root.GetProperty("capture");

    public static JsonReportFile Read(string path) => Parse(File.ReadAllBytes(path));

    public static JsonReportFile Parse(ReadOnlyMemory<byte> json)
    {
        using var document = JsonDocument.Parse(json);
        Assert.That(document.RootElement.GetProperty("schema").GetString(), Is.EqualTo("nativeleaks-report/1"));
        return new JsonReportFile(document.RootElement.Clone());
    }

    /// <summary>Blocks and bytes of these leaks.</summary>
    public static (long Blocks, long Bytes) Sum(IEnumerable<JsonLeak> leaks) =>
        leaks.Aggregate((Blocks: 0L, Bytes: 0L), (sum, leak) => (sum.Blocks + leak.Blocks, sum.Bytes + leak.Bytes));

    /// <summary>The leaks with their stacks, for the message of a test that finds some where none should be.</summary>
    public string DescribeLeaks() =>
        Leaks.Count == 0 ? "no leaks" : string.Join("\n\n", Leaks.Select(leak => $"{leak}\n  {string.Join("\n  ", leak.Stack)}"));

    private static JsonLeak ReadLeak(JsonElement leak) => new(
        leak.GetProperty("api").GetString(),
        leak.GetProperty("allocator").GetString(),
        leak.GetProperty("owner").GetString(),
        leak.GetProperty("blocks").GetInt64(),
        leak.GetProperty("bytes").GetInt64(),
        [.. leak.GetProperty("stack").EnumerateArray().Select(ReadFrame)]);

    private static string ReadFrame(JsonElement frame) =>
        frame.GetProperty("method").GetString() ?? frame.GetProperty("module").GetString() ?? "?";
}
