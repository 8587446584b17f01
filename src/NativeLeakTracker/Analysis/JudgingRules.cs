using System.Globalization;
using System.Runtime.CompilerServices;

namespace NativeLeaks.Analysis;

/// <summary>What a report does not call a leak although it is outstanding: by the options, and by the environment. Immutable.</summary>
internal sealed class JudgingRules
{
    private static readonly ConditionalWeakTable<NativeLeakOptions, JudgingRules> s_known = [];

    private readonly NativeLeakOptions _options;

    private JudgingRules(NativeLeakOptions options) => _options = options;

    /// <summary>Blocks of fewer bytes are not judged.</summary>
    public long MinBlockBytes => _options.MinBlockBytes;

    /// <summary>Why blocks below <see cref="MinBlockBytes"/> are set aside.</summary>
    public Exclusion TooSmall => new(
        "filter", string.Create(CultureInfo.InvariantCulture, $"{nameof(NativeLeakOptions.MinBlockBytes)}={MinBlockBytes}"));

    /// <summary>Made once for each instance of the options: tests share them.</summary>
    /// <exception cref="ArgumentException">An option makes no sense; the message says which.</exception>
    public static JudgingRules Of(NativeLeakOptions options) => s_known.GetValue(options, static o => new JudgingRules(o));

    /// <summary>Why a group is no leak after all; null: it is one.</summary>
    public Exclusion? Exclude(LeakGroup group) =>
        Suppressions.Match(group.Stack) is { } rule ? new Exclusion("suppressed", rule)
        : IsWithinLimits(group) ? new Exclusion("limit")
        : null;

    private bool IsWithinLimits(LeakGroup group) =>
        (_options.MaxBlocksPerStack is not null || _options.MaxBytesPerStack is not null) &&
        group.Blocks <= (_options.MaxBlocksPerStack ?? long.MaxValue) &&
        group.Bytes <= (_options.MaxBytesPerStack ?? long.MaxValue);
}
