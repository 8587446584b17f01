using System.Text.Json;

namespace NativeLeaks.Reports;

/// <summary>The report for scripts: schema nativeleaks-report/1 (docs/report-json.md).</summary>
internal static class JsonReport
{
    public static void Write(NativeLeakReport report, Stream stream)
    {
        using var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        json.WriteString("schema", report.Schema);

        json.WriteStartObject("process");
        json.WriteNumber("pid", report.Process.Pid);
        json.WriteString("command", report.Process.Command);
        json.WriteString("runtime", report.Process.Runtime);
        json.WriteString("started", report.Process.Started);
        if (report.Process.DurationMs is { } duration)
        {
            json.WriteNumber("durationMs", duration);
        }
        else
        {
            json.WriteNull("durationMs");
        }

        json.WriteEndObject();

        json.WriteStartObject("capture");
        json.WriteString("mode", report.Capture.Mode);
        json.WriteString("stacks", report.Capture.Stacks);
        json.WriteNumber("dropped", report.Capture.Dropped);
        json.WriteNumber("truncated", report.Capture.Truncated);
        json.WriteNumber("approximateStacks", report.Capture.ApproximateStacks);
        json.WriteNumber("unseenImports", report.Capture.UnseenImports);
        json.WriteNumber("uncertainReleases", report.Capture.UncertainReleases);
        json.WriteNumber("unlistedReleases", report.Capture.UnlistedReleases);
        json.WriteNumber("uncopiedCodeInfo", report.Capture.UncopiedCodeInfo);
        json.WriteNumber("unlistedFinalized", report.Capture.UnlistedFinalized);
        json.WriteString("endedBy", report.Capture.EndedBy);
        json.WriteEndObject();

        json.WriteStartObject("totals");
        json.WriteNumber("liveBlocks", report.Totals.LiveBlocks);
        json.WriteNumber("liveBytes", report.Totals.LiveBytes);
        json.WriteNumber("allocatedBlocks", report.Totals.AllocatedBlocks);
        if (report.Totals.AllocatedBytes is { } allocatedBytes)
        {
            json.WriteNumber("allocatedBytes", allocatedBytes);
        }

        json.WriteEndObject();

        WriteGroups(json, "leaks", report.Leaks);
        WriteGroups(json, "kept", report.Kept);
        WritePairing(json, report.PairingBugs);
        WriteManagedPointers(json, report.ManagedPointers);

        json.WriteStartArray("excluded");
        foreach (ExcludedBlocks excluded in report.Excluded)
        {
            json.WriteStartObject();
            json.WriteString("reason", excluded.Reason);
            json.WriteString("rule", excluded.Rule);
            WriteIfKnown(json, "origin", excluded.Origin);
            json.WriteNumber("blocks", excluded.Blocks);
            json.WriteNumber("bytes", excluded.Bytes);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        WriteTexts(json, "notes", report.Notes);
        WriteTexts(json, "symbolNotes", report.SymbolNotes);
        json.WriteEndObject();
    }

    private static void WriteTexts(Utf8JsonWriter json, string name, IReadOnlyList<string> texts)
    {
        json.WriteStartArray(name);
        foreach (string text in texts)
        {
            json.WriteStringValue(text);
        }

        json.WriteEndArray();
    }

    private static void WriteAge(Utf8JsonWriter json, LeakGroup group)
    {
        if (group.CollectionsSurvived is { } most && group.FewestCollectionsSurvived is { } fewest)
        {
            json.WriteNumber("collectionsSurvived", most);
            json.WriteNumber("fewestCollectionsSurvived", fewest);
        }

        if (group.FirstAllocated is { } first && group.LastAllocated is { } last)
        {
            json.WriteString("firstAllocated", first);
            json.WriteString("lastAllocated", last);
        }
    }

    private static void WriteManagedPointers(Utf8JsonWriter json, IReadOnlyList<ManagedPointerBug> bugs)
    {
        json.WriteStartArray("managedPointers");
        foreach (ManagedPointerBug bug in bugs)
        {
            json.WriteStartObject();
            json.WriteString("address", bug.Address);
            json.WriteNumber("offset", bug.Offset);
            json.WriteNumber("count", bug.Count);
            json.WriteString("target", bug.Target);
            json.WriteString("description", bug.Description);
            WriteStack(json, "stack", bug.Stack);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WriteGroups(Utf8JsonWriter json, string name, IReadOnlyList<LeakGroup> groups)
    {
        json.WriteStartArray(name);
        foreach (LeakGroup group in groups)
        {
            json.WriteStartObject();
            json.WriteString("verdict", group.Verdict);
            json.WriteString("how", group.How);
            json.WriteString("finalizedType", group.FinalizedType);
            json.WriteNumber("blocks", group.Blocks);
            json.WriteNumber("bytes", group.Bytes);
            json.WriteNumber("smallestBytes", group.SmallestBytes);
            json.WriteNumber("largestBytes", group.LargestBytes);
            json.WriteString("api", group.Api);
            json.WriteString("import", group.Import);
            json.WriteString("allocator", group.Allocator);
            json.WriteString("owner", group.Owner);
            json.WriteString("advice", group.Advice);
            WriteTexts(json, "holders", group.Holders);
            WriteAge(json, group);
            if (group.BlocksPerRound is { } rounds)
            {
                json.WriteStartArray("blocksPerRound");
                foreach (long blocks in rounds)
                {
                    json.WriteNumberValue(blocks);
                }

                json.WriteEndArray();
            }

            json.WriteStartArray("stack");
            foreach (LeakFrame frame in group.Stack)
            {
                WriteFrame(json, frame);
            }

            json.WriteEndArray();
            json.WriteStartArray("addresses");
            foreach (string address in group.Addresses)
            {
                json.WriteStringValue(address);
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WritePairing(Utf8JsonWriter json, IReadOnlyList<PairingBug> bugs)
    {
        json.WriteStartArray("pairing");
        foreach (PairingBug bug in bugs)
        {
            json.WriteStartObject();
            json.WriteString("kind", bug.Kind);
            json.WriteString("address", bug.Address);
            json.WriteNumber("count", bug.Count);
            json.WriteString("description", bug.Description);
            WriteStack(json, "stack", bug.Stack);
            WriteStack(json, "firstReleaseStack", bug.FirstReleaseStack);
            WriteStack(json, "allocationStack", bug.AllocationStack);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WriteStack(Utf8JsonWriter json, string name, IReadOnlyList<LeakFrame> stack)
    {
        json.WriteStartArray(name);
        foreach (LeakFrame frame in stack)
        {
            WriteFrame(json, frame);
        }

        json.WriteEndArray();
    }

    private static void WriteFrame(Utf8JsonWriter json, LeakFrame frame)
    {
        json.WriteStartObject();
        json.WriteString("kind", frame.Kind switch
        {
            LeakFrameKind.Native => "native",
            LeakFrameKind.Managed => "managed",
            _ => "runtime",
        });
        json.WriteString("method", frame.Method);
        WriteIfKnown(json, "symbol", frame.Symbol);
        json.WriteString("module", frame.Module);
        if (frame.Offset is { } offset)
        {
            json.WriteNumber("offset", offset);
        }

        json.WriteString("file", frame.File);
        if (frame.Line is { } line)
        {
            json.WriteNumber("line", line);
        }
        else
        {
            json.WriteNull("line");
        }

        WriteIfKnown(json, "link", frame.Link);
        WriteIfKnown(json, "address", frame.Address is { } address ? $"0x{address:x}" : null);
        json.WriteBoolean("inferred", frame.Inferred);
        WriteIfTrue(json, "inlined", frame.Inlined);
        WriteIfTrue(json, "approximate", frame.Approximate);
        WriteIfTrue(json, "cut", frame.Cut);
        json.WriteEndObject();
    }

    private static void WriteIfKnown(Utf8JsonWriter json, string name, string? value)
    {
        if (value is not null)
        {
            json.WriteString(name, value);
        }
    }

    private static void WriteIfTrue(Utf8JsonWriter json, string name, bool value)
    {
        if (value)
        {
            json.WriteBoolean(name, true);
        }
    }
}
