using System.Text;
using NativeLeaks.Analysis;

namespace NativeLeaks.Tests.Judging;

/// <summary>Suppression files, good and hostile.</summary>
[TestFixture]
public sealed class SuppressionFileTests
{
    private readonly TemporaryFolder _folder = new();

    private string Path => _folder.File("rules.supp");

    [OneTimeTearDown]
    public void Remove_the_folder() => _folder.Dispose();

    [Test]
    public void File_has_rules_comments_empty_lines_and_other_sanitizers_rules()
    {
        File.WriteAllText(Path, "\ufeff# known\r\n\r\n  leak:^Foo.Bar($  \r\nrace:Foo\nthread:x\nvptr:y\nleak:lib*.so");

        Assert.That(
            SuppressionFile.Read(Path).Select(static rule => (rule.Text, rule.Origin)),
            Is.EqualTo(new[] { ("leak:^Foo.Bar($", $"{Path}:3"), ("leak:lib*.so", $"{Path}:7") }));
    }

    [TestCase("leak:a\nleeak:b", ":2: ")]
    [TestCase("leak:a\n\n# c\nleak:", ":4: ")]
    [TestCase("leak:a\nFoo.Bar", ":2: ")]
    [TestCase("leak: \u0001", ":1: ")]
    public void Line_that_is_no_rule_is_named_with_its_file(string text, string line)
    {
        File.WriteAllText(Path, text);

        Assert.That(() => SuppressionFile.Read(Path), Throws.TypeOf<InvalidDataException>().With.Message.StartsWith(Path + line));
    }

    [Test]
    public void File_that_is_not_UTF_8_is_refused()
    {
        File.WriteAllBytes(Path, [.. Encoding.ASCII.GetBytes("leak:"), 0xff, 0xfe]);

        Assert.That(() => SuppressionFile.Read(Path), Throws.TypeOf<InvalidDataException>().With.Message.Contains("UTF-8"));
    }

    [Test]
    public void File_that_is_too_large_is_not_read()
    {
        using (var file = File.Create(Path))
        {
            file.SetLength(1L << 40);
        }

        Assert.That(() => SuppressionFile.Read(Path), Throws.TypeOf<InvalidDataException>().With.Message.Contains("bytes"));
    }

    [Test]
    public void Too_many_rules_are_refused()
    {
        File.WriteAllLines(Path, Enumerable.Repeat("leak:a", SuppressionFile.MaxRules + 1));

        Assert.That(() => SuppressionFile.Read(Path), Throws.TypeOf<InvalidDataException>().With.Message.Contains($":{SuppressionFile.MaxRules + 1}:"));
    }

    [Test]
    [CancelAfter(60_000)]
    public void Pipe_a_device_and_a_folder_are_refused_and_hold_nobody_up()
    {
        var pipe = _folder.File("pipe");
        ChildProcess.Run("mkfifo", [pipe]);

        foreach (var path in new[] { pipe, "/dev/zero", _folder.File(".") })
        {
            Assert.That(() => SuppressionFile.Read(path), Throws.TypeOf<InvalidDataException>().With.Message.Contains(path), path);
        }
    }

    [Test]
    public void File_that_is_not_there_is_said_to_be_missing() =>
        Assert.That(
            () => SuppressionFile.Read(_folder.File("none")),
            Throws.TypeOf<FileNotFoundException>().With.Message.Contains(_folder.File("none")));

    [Test]
    public void Random_bytes_are_rules_or_an_error_that_says_where()
    {
        const string Letters = "leak:*^$#\r\n \0\u007fab";
        var random = new Random(7);
        for (var i = 0; i < 2_000; i++)
        {
            var bytes = new byte[random.Next(64)];
            for (var at = 0; at < bytes.Length; at++)
            {
                bytes[at] = (byte)Letters[random.Next(Letters.Length)];
            }

            File.WriteAllBytes(Path, bytes);
            try
            {
                Assert.That(SuppressionFile.Read(Path), Is.Not.Null);
            }
            catch (InvalidDataException e)
            {
                Assert.That(e.Message, Does.StartWith(Path + ":"));
            }
        }
    }
}
