namespace VerdictPeers;

/// <summary>A tool that looks for leaks in a whole process.</summary>
internal interface IPeer
{
    string Name { get; }

    /// <summary>As it prints it; null where it is not installed.</summary>
    string? Version();

    /// <summary>Runs a program under the tool, and returns what it calls leaked, with the program's own output. Throws if it gives no
    /// answer.</summary>
    (IReadOnlyList<ReportedBlocks> Leaks, string Output) Run(IReadOnlyList<string> command);
}
