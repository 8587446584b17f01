using System.Globalization;

namespace NativeLeaks.Tests.Consumers;

/// <summary>
/// Tests that run in parallel are blamed for their own blocks only: tests/consumers/parallel. <c>NATIVELEAKS_TEST_ROUNDS</c> runs it more often
/// than once; tests/prove does.
/// </summary>
[TestFixture]
public sealed class ParallelTestsTests
{
    private const int Tests = 200;

    // In each leaking test: once in itself and once at its end, twice in each of three tasks, in a timer, on a thread and in a callback.
    private const int BlocksPerTest = 11;

    [Test]
    public void Exactly_the_leaking_ones_of_two_hundred_parallel_tests_fail_each_with_its_own_blocks()
    {
        int rounds = int.Parse(Environment.GetEnvironmentVariable("NATIVELEAKS_TEST_ROUNDS") ?? "1", CultureInfo.InvariantCulture);
        using var consumer = new ConsumerRun("consumers", "parallel");
        for (int round = 0; round < rounds; round++)
        {
            Dictionary<string, ConsumerResult> results = consumer.Test(round == 0 ? [] : ["--no-build"]);

            Assert.That(results, Has.Count.EqualTo(Tests));
            for (int number = 0; number < Tests; number++)
            {
                ConsumerResult result = results[$"Number({number})"];
                bool leaks = number % 10 == 0;
                Assert.That(result.Outcome, Is.EqualTo(leaks ? "Failed" : "Passed"), $"round {round}, test {number}: {result.Message}\n{result.Output}");
                if (leaks)
                {
                    int size = 10_000 + number;
                    Assert.That(
                        result.Message,
                        Does.Match(string.Create(CultureInfo.InvariantCulture, $"[0-9]+ native leaks: {BlocksPerTest} blocks, {BlocksPerTest * size:N0} bytes")),
                        $"round {round}, test {number}: {result.Output}");
                }
            }

            TestContext.Out.WriteLine($"round {round + 1}: {Tests / 10} of {Tests} tests failed, each with its own {BlocksPerTest} blocks");
        }
    }
}
