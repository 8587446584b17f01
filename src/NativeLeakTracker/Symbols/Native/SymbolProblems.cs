namespace NativeLeaks.Symbols.Native;

/// <summary>What was damaged, refused or skipped while symbols were read: a bounded number of lines, each once.</summary>
internal sealed class SymbolProblems
{
    private const int MaxLines = 20;

    private readonly List<string> _lines = [];
    private int _further;

    /// <summary>One line each; the last tells how many there were beyond those.</summary>
    public IReadOnlyList<string> Lines =>
        _further == 0 ? _lines : [.. _lines, $"{_further} more problems with symbols"];

    /// <summary>Notes a problem of a file.</summary>
    public void Add(string path, string what)
    {
        string line = $"{path}: {what}";
        if (_lines.Contains(line))
        {
            return;
        }

        if (_lines.Count < MaxLines)
        {
            _lines.Add(line);
        }
        else
        {
            _further++;
        }
    }
}
