using System.Runtime.InteropServices;
using NativeLeaks.Symbols;

namespace NativeLeaks.Analysis;

/// <summary>
/// Tells which stacks read the same: those whose frames have the same names, modules and lines, whatever their addresses. Each
/// frame is read once, however many stacks it stands in.
/// </summary>
/// <param name="byLine">Whether stacks that differ in line numbers only are different.</param>
internal sealed class StackIdentities(bool byLine = true)
{
    private readonly Dictionary<LeakFrame, int> _byFrame = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<(string Name, string? Module, string? File, int? Line), int> _byText = [];

    /// <summary>Equal for stacks that read the same, and for no others; no text for people.</summary>
    public string Of(IReadOnlyList<ResolvedFrame> stack)
    {
        Span<int> numbers = stack.Count <= 256 ? stackalloc int[stack.Count] : new int[stack.Count];
        for (int i = 0; i < stack.Count; i++)
        {
            numbers[i] = NumberOf(stack[i].Frame);
        }

        return new string(MemoryMarshal.Cast<int, char>(numbers));
    }

    private int NumberOf(LeakFrame frame)
    {
        if (!_byFrame.TryGetValue(frame, out int number))
        {
            (string, string?, string?, int?) text = 
                (NameOf(frame), frame.Module, byLine ? frame.File : null, byLine ? frame.Line : null);
            if (!_byText.TryGetValue(text, out number))
            {
                _byText[text] = number = _byText.Count;
            }

            _byFrame[frame] = number;
        }

        return number;
    }

    // Without a name the offset is all that there is.
    private static string NameOf(LeakFrame frame) => frame.Symbol ?? frame.ToString();
}
