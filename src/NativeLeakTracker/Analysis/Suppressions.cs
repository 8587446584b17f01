namespace NativeLeaks.Analysis;

/// <summary>Finds the rule that hides a stack. For one report; reads each frame once, however many stacks it stands in.</summary>
internal sealed class Suppressions(IReadOnlyList<SuppressionRule> rules)
{
    private readonly Dictionary<LeakFrame, int> _byFrame = new(ReferenceEqualityComparer.Instance);

    /// <summary>The first rule that fits a frame of the stack; null when none does.</summary>
    public SuppressionRule? Find(IReadOnlyList<LeakFrame> stack)
    {
        int first = rules.Count;
        foreach (LeakFrame frame in stack)
        {
            if (!_byFrame.TryGetValue(frame, out int rule))
            {
                rule = 0;
                while (rule < rules.Count && !rules[rule].Fits(frame))
                {
                    rule++;
                }

                _byFrame[frame] = rule;
            }

            first = Math.Min(first, rule);
        }

        return first < rules.Count ? rules[first] : null;
    }
}
