using NativeLeaks.Ledger;
using NativeLeaks.Symbols;

namespace NativeLeaks.Analysis;

/// <summary>
/// What each of several rounds left behind, by stack. A stack grows if it has more blocks, or more bytes, after every round than
/// after the one before.
/// </summary>
/// <remarks>
/// A method that is compiled anew between two rounds has other addresses and maybe other frames: stacks are compared by names only, and where
/// no stack grows by itself, all that one owner got through one call are taken together.
/// </remarks>
internal sealed class GrowthMeter(LedgerReader ledger, GrowthRounds plan, JudgingRules rules) : IDisposable
{
    private readonly List<Dictionary<(uint Context, Judgement Judgement), LiveGroup>> _rounds = new(plan.Measured + 1);

    /// <summary>Names the stacks.</summary>
    public ContextResolver Resolver { get; } = new(ledger, SymbolSettings.FromEnvironment(), isThisProcess: true);

    /// <summary>Why a round did not come to rest; null: all did.</summary>
    public string? Unsettled { get; set; }

    public void Dispose() => Resolver.Dispose();

    /// <summary>Notes what is there after a round; the first call is the state before all that are measured.</summary>
    public void Note(BlockFilter filter)
    {
        var attribution = new Attribution(Resolver, filter);
        var round = new Dictionary<(uint, Judgement), LiveGroup>();
        foreach (OutstandingBlocks outstanding in LiveGroups.Collect(ledger, filter, rules.MinBlockBytes))
        {
            uint context = outstanding.Group.Context;
            if (!outstanding.IsSmall && !Resolver.IsRuntimeBlock(context) &&
                attribution.Exclude(context, outstanding.Belonging) is null)
            {
                Add(round, outstanding.Group, Judgement.Unclassified);
            }
        }

        foreach ((LiveGroup group, Judgement judgement) in FinalizerReleases.Collect(ledger, filter, Resolver))
        {
            Add(round, group, judgement);
        }

        _rounds.Add(round);
    }

    /// <summary>Stacks that grew with every round, most bytes first; and what was set aside of them.</summary>
    public LeakFindings Judge()
    {
        var identities = new StackIdentities(byLine: false);
        var series = new Dictionary<(string Stack, Judgement Judgement), Series>();
        for (int round = 0; round < _rounds.Count; round++)
        {
            foreach (((uint context, Judgement judgement), LiveGroup group) in _rounds[round])
            {
                IReadOnlyList<ResolvedFrame> stack = Resolver.Resolve(context);
                (string, Judgement) key = (identities.Of(stack), judgement);
                if (!series.TryGetValue(key, out Series? of))
                {
                    series[key] = of = new Series(_rounds.Count, Suspects.Describe(stack, group, judgement));
                }

                of.Add(round, group);
            }
        }

        var aside = new SetAside();
        List<LeakGroup> leaks = [];
        foreach (IGrouping<(string?, string?, string?, string?, Judgement), Series> site in series
            .GroupBy(static s => (s.Value.Group.Owner, s.Value.Group.Api, s.Value.Group.Import, s.Value.Group.Allocator, s.Key.Judgement), static s => s.Value))
        {
            List<Series> growing = [.. site.Where(static s => s.Grows)];
            if (growing.Count == 0 && Series.Sum(site) is { Grows: true } sum)
            {
                growing = [sum];
            }

            foreach (Series grown in growing)
            {
                LeakGroup group = grown.Describe().WithAdvice();
                if (rules.Exclude(grown.LargestRound()) is { } reason)
                {
                    aside.Add(reason, group.Blocks, group.Bytes);
                }
                else
                {
                    leaks.Add(group);
                }
            }
        }

        Dictionary<(uint, Judgement), LiveGroup> last = _rounds[^1];
        return new LeakFindings(
            LeakAnalysis.InOrder(leaks),
            [],
            aside.ToList(),
            last.Sum(static g => g.Value.Blocks),
            last.Sum(static g => g.Value.Bytes),
            leaks.Count > 0 ? Resolver.Notes : []);
    }

    private static void Add(Dictionary<(uint, Judgement), LiveGroup> round, LiveGroup group, Judgement judgement)
    {
        if (round.TryGetValue((group.Context, judgement), out LiveGroup? same))
        {
            same.Add(group);
        }
        else
        {
            round[(group.Context, judgement)] = group;
        }
    }

    /// <summary>Blocks and bytes of one stack after each round.</summary>
    private sealed class Series(int rounds, LeakGroup group)
    {
        private readonly long[] _blocks = new long[rounds];
        private readonly long[] _bytes = new long[rounds];

        /// <summary>The stack, with figures of some round.</summary>
        public LeakGroup Group => group;

        public bool Grows => Steps(_blocks).All(static s => s > 0) || Steps(_bytes).All(static s => s > 0);

        public void Add(int round, LiveGroup blocks)
        {
            _blocks[round] += blocks.Blocks;
            _bytes[round] += blocks.Bytes;
        }

        /// <summary>Together, under the stack that grew most.</summary>
        public static Series Sum(IEnumerable<Series> several)
        {
            Series most = several.MaxBy(static s => s._bytes[^1] - s._bytes[0])!;
            var sum = new Series(most._blocks.Length, most.Group);
            foreach (Series one in several)
            {
                for (int i = 0; i < one._blocks.Length; i++)
                {
                    sum._blocks[i] += one._blocks[i];
                    sum._bytes[i] += one._bytes[i];
                }
            }

            return sum;
        }

        /// <summary>What all rounds together left behind.</summary>
        public LeakGroup Describe() => group with
        {
            Blocks = _blocks[^1] - _blocks[0],
            Bytes = _bytes[^1] - _bytes[0],
            BlocksPerRound = Steps(_blocks),
        };

        /// <summary>What the limits for one round are held against.</summary>
        public LeakGroup LargestRound() => group with { Blocks = Steps(_blocks).Max(), Bytes = Steps(_bytes).Max() };

        private static long[] Steps(long[] values) => [.. values.Skip(1).Zip(values, static (now, before) => now - before)];
    }
}
