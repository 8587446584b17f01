using NativeLeaks.Analysis;

namespace NativeLeaks.Tests.Judging;

/// <summary>What a pattern fits.</summary>
[TestFixture]
public sealed class PatternTests
{
    [TestCase("b", "abc", true)]
    [TestCase("^b", "abc", false)]
    [TestCase("^a", "abc", true)]
    [TestCase("c$", "abc", true)]
    [TestCase("b$", "abc", false)]
    [TestCase("^abc$", "abc", true)]
    [TestCase("^abc$", "abcabc", false)]
    [TestCase("bc$", "bcxbc", true)]
    [TestCase("a*c", "a--c-", true)]
    [TestCase("^a*c$", "a--c-", false)]
    [TestCase("^a*a$", "a", false)]
    [TestCase("*", "anything", true)]
    [TestCase("*", "", false)]
    [TestCase("A", "a", false)]
    [TestCase("a^b", "a^b", true)]
    [TestCase("a$b", "a$b", true)]
    public void Pattern_fits_as_LeakSanitizer_s_do(string pattern, string text, bool fits) =>
        Assert.That(new Pattern(pattern).Matches(text), Is.EqualTo(fits));

    [TestCase("")]
    [TestCase("^")]
    [TestCase("$")]
    [TestCase("^$")]
    [TestCase("a\tb")]
    public void Pattern_that_would_fit_everything_by_mistake_is_refused(string pattern) =>
        Assert.That(() => new Pattern(pattern), Throws.TypeOf<FormatException>());

    [Test]
    public void Too_long_a_pattern_is_refused() =>
        Assert.That(() => new Pattern(new string('a', Pattern.MaxLength + 1)), Throws.TypeOf<FormatException>());

    // The model tries everything; few letters make for many near misses.
    [Test]
    public void Pattern_agrees_with_a_slow_model_on_100_000_random_pairs()
    {
        var random = new Random(20_261);
        var fitting = 0;
        for (var i = 0; i < 100_000; i++)
        {
            var pattern = RandomText(random, "ab*^$", 1, 8);
            var text = RandomText(random, "ab^$", 1, 12);
            if (pattern is "^" or "$" or "^$")
            {
                continue;
            }

            var expected = Model(pattern, text);
            fitting += expected ? 1 : 0;
            Assert.That(new Pattern(pattern).Matches(text), Is.EqualTo(expected), $"{pattern} on {text}");
        }

        Assert.That(fitting, Is.InRange(10_000, 90_000));
    }

    // Backtracking would take longer than the universe is old; here the steps are those of 512 searches.
    [Test]
    [CancelAfter(60_000)]
    public void Pattern_made_to_be_slow_is_not()
    {
        var pattern = new Pattern(string.Concat(Enumerable.Repeat("a*", Pattern.MaxLength / 2 - 1)) + "b$");

        Assert.That(pattern.Matches(new string('a', 1_000_000)), Is.False);
    }

    private static bool Model(string pattern, string text)
    {
        var start = pattern[0] == '^';
        var end = pattern.Length > (start ? 1 : 0) && pattern[^1] == '$';
        var body = pattern[(start ? 1 : 0)..(end ? ^1 : ^0)];
        return Glob((start ? "" : "*") + body + (end ? "" : "*"), text);
    }

    private static bool Glob(string pattern, string text) =>
        pattern.Length == 0 ? text.Length == 0
        : pattern[0] == '*' ? Glob(pattern[1..], text) || (text.Length > 0 && Glob(pattern, text[1..]))
        : text.Length > 0 && text[0] == pattern[0] && Glob(pattern[1..], text[1..]);

    private static string RandomText(Random random, string letters, int min, int max) =>
        new([.. Enumerable.Range(0, random.Next(min, max + 1)).Select(_ => letters[random.Next(letters.Length)])]);
}
