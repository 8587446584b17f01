namespace NativeLeaks;

/// <summary>Totals of what was recorded in this process so far, the runtime's blocks among them.</summary>
/// <param name="LiveBlocks">Recorded blocks that are not freed.</param>
/// <param name="LiveBytes">Their bytes, as the program asked for them.</param>
/// <param name="AllocatedBlocks">Blocks allocated while recording.</param>
/// <param name="AllocatedBytes">Their bytes.</param>
public readonly record struct NativeLeakStatistics(
    long LiveBlocks,
    long LiveBytes,
    long AllocatedBlocks,
    long AllocatedBytes);
