using System.Globalization;

namespace NativeLeaks;

/// <summary>An instruction of a program.</summary>
/// <param name="Address">Where it stands: in the process for managed code, in the file's own numbering for a library's.</param>
/// <param name="Bytes">Its machine code.</param>
/// <param name="Text">Intel's notation, with the names of functions where they are known.</param>
/// <param name="IsCall">Whether it calls a function.</param>
/// <param name="IsHere">Whether it is the one that was asked about: for a return address, the call.</param>
public sealed record Instruction(ulong Address, IReadOnlyList<byte> Bytes, string Text, bool IsCall, bool IsHere);

/// <summary>What lies at an address of this process. Immutable.</summary>
public sealed record AddressExplanation
{
    /// <summary>The address.</summary>
    public required ulong Address { get; init; }

    /// <summary>The file that is mapped there, or what the kernel calls the memory; null for anonymous memory.</summary>
    public required string? Mapping { get; init; }

    /// <summary>The functions there, innermost first: inlined ones, then the one that has the frame. Empty where none is known.</summary>
    public IReadOnlyList<LeakFrame> Frames { get; init; } = [];

    /// <summary>The machine code around it; empty where it cannot be decoded for certain.</summary>
    public IReadOnlyList<Instruction> Instructions { get; init; } = [];

    /// <summary>Writes it for people.</summary>
    /// <exception cref="IOException">The writer failed.</exception>
    public void WriteText(TextWriter writer)
    {
        ArgumentNullException.ThrowIfNull(writer);
        writer.WriteLine($"0x{Address:x}   {Mapping ?? "anonymous memory"}");
        foreach (LeakFrame frame in Frames)
        {
            string line = frame is { File: not null, Line: not null } ? $"   {frame.File}:{frame.Line}" : "";
            writer.WriteLine($"    {frame}{(frame.Inlined ? " (inlined)" : "")}{line}");
        }

        foreach (Instruction instruction in Instructions)
        {
            string bytes = string.Join(' ', instruction.Bytes.Select(static b => b.ToString("x2", CultureInfo.InvariantCulture)));
            writer.WriteLine($"  {(instruction.IsHere ? "=>" : "  ")} {instruction.Address,14:x}  {bytes,-30}  {instruction.Text}");
        }
    }
}
