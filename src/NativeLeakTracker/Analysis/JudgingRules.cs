using System.Globalization;
using System.Runtime.CompilerServices;

namespace NativeLeaks.Analysis;

/// <summary>
/// What a report does not call a leak although it is outstanding: by the options, by the environment, and by what is known of
/// libraries. For one report; not thread-safe.
/// </summary>
internal sealed class JudgingRules
{
    private static readonly ConditionalWeakTable<NativeLeakOptions, IReadOnlyList<SuppressionRule>> s_read = [];

    private readonly NativeLeakOptions _options;
    private readonly Suppressions _suppressions;
    private readonly Pattern[] _owners;
    private readonly Pattern[] _allocators;
    private readonly Pattern[] _methods;

    private JudgingRules(NativeLeakOptions options, IReadOnlyList<SuppressionRule> suppressions)
    {
        _options = options;
        _suppressions = new Suppressions(suppressions);
        _owners = Patterns(options.Owners);
        _allocators = Patterns(options.Allocators);
        _methods = Patterns(options.Methods);
    }

    /// <summary>Blocks of fewer bytes are not judged.</summary>
    public long MinBlockBytes => _options.MinBlockBytes;

    /// <summary>Why blocks below <see cref="MinBlockBytes"/> are set aside.</summary>
    public Exclusion TooSmall => new(
        "filter", string.Create(CultureInfo.InvariantCulture, $"{nameof(NativeLeakOptions.MinBlockBytes)}={MinBlockBytes}"));

    /// <summary>
    /// Files are read once for each instance of the options, which tests share: what one test was judged by holds for the next.
    /// </summary>
    /// <exception cref="ArgumentException">An option makes no sense; the message says which.</exception>
    /// <exception cref="IOException">A suppression file cannot be read; also as <see cref="FileNotFoundException"/>,
    /// <see cref="UnauthorizedAccessException"/> and <see cref="InvalidDataException"/>.</exception>
    public static JudgingRules Of(NativeLeakOptions options) =>
        new(options, s_read.GetValue(options, static o =>
        {
            o.Validate();
            return SuppressionSources.Of(o);
        }));

    /// <summary>The defaults, where nobody can catch an exception: what cannot be read is told and left out.</summary>
    public static JudgingRules OfEnvironment(Action<string> tell) =>
        new(NativeLeakOptions.Default, SuppressionSources.OfEnvironment(tell));

    /// <summary>Whether what is kept fails as well.</summary>
    public bool IsStrict => _options.Strict;

    /// <summary>Why a group is no leak after all; null: it is one.</summary>
    public Exclusion? Exclude(LeakGroup group) => ExcludeByStack(group) ?? ExcludeByAmount(group);

    /// <summary>As far as the stack alone tells.</summary>
    public Exclusion? ExcludeByStack(LeakGroup group) =>
        _suppressions.Find(group.Stack) is { } rule ? new Exclusion("suppressed", rule.Text, rule.Origin)
        : UnaskedFor(group) is { } filter ? new Exclusion("filter", filter)
        : null;

    /// <summary>By the limits, and by what the caller thinks of it.</summary>
    public Exclusion? ExcludeByAmount(LeakGroup group) =>
        IsWithinLimits(group) ? new Exclusion("limit", DescribeLimits())
        : _options.Filter?.Invoke(group) is false ? new Exclusion("filter", nameof(NativeLeakOptions.Filter))
        : null;

    private static Pattern[] Patterns(IReadOnlyList<string> texts) => [.. texts.Select(static t => new Pattern(t))];

    private static bool Fits(Pattern[] patterns, string? text) =>
        patterns.Length == 0 || Array.Exists(patterns, p => p.Matches(text));

    /// <summary>The option that asks for others only.</summary>
    private string? UnaskedFor(LeakGroup group) =>
        !Fits(_owners, group.Owner) ? nameof(NativeLeakOptions.Owners)
        : !Fits(_allocators, group.Allocator) ? nameof(NativeLeakOptions.Allocators)
        : _methods.Length > 0 && !group.Stack.Any(f => Fits(_methods, f.Method) || Fits(_methods, f.Symbol))
            ? nameof(NativeLeakOptions.Methods)
        : null;

    private bool IsWithinLimits(LeakGroup group) =>
        (_options.MaxBlocksPerStack is not null || _options.MaxBytesPerStack is not null) &&
        group.Blocks <= (_options.MaxBlocksPerStack ?? long.MaxValue) &&
        group.Bytes <= (_options.MaxBytesPerStack ?? long.MaxValue);

    private string DescribeLimits() => string.Join(", ", new[]
    {
        Describe(nameof(NativeLeakOptions.MaxBlocksPerStack), _options.MaxBlocksPerStack),
        Describe(nameof(NativeLeakOptions.MaxBytesPerStack), _options.MaxBytesPerStack),
    }.OfType<string>());

    private static string? Describe(string name, long? limit) =>
        limit is { } value ? string.Create(CultureInfo.InvariantCulture, $"{name}={value}") : null;
}
