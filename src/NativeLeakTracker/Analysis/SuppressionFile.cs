using System.Text;
using NativeLeaks.Files;

namespace NativeLeaks.Analysis;

/// <summary>A file of rules, one a line. Anybody may have written it.</summary>
internal static class SuppressionFile
{
    /// <summary>The largest file that is read.</summary>
    public const int MaxBytes = 4 << 20;

    /// <summary>The most rules in one file: each of them is tried on each frame.</summary>
    public const int MaxRules = 10_000;

    private static readonly UTF8Encoding s_utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <param name="path">A relative one is looked for in the working folder, then beside the program.</param>
    /// <exception cref="FileNotFoundException">Nothing is there.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    /// <exception cref="InvalidDataException">It is no regular file, too large, no UTF-8, or has a line that is no rule; the message
    /// names the line.</exception>
    /// <exception cref="IOException">It cannot be read for another reason.</exception>
    public static IReadOnlyList<SuppressionRule> Read(string path)
    {
        string beside = Path.Combine(AppContext.BaseDirectory, path);
        using RegularFile file = RegularFile.Open(!Path.Exists(path) && Path.Exists(beside) ? beside : path);
        long length = file.LengthBytes;
        if (length > MaxBytes)
        {
            throw new InvalidDataException($"The suppression file {path} has {length} bytes; at most {MaxBytes} are read.");
        }

        byte[] bytes = new byte[length];
        int read = file.Read(0, bytes);
        ReadOnlySpan<byte> text = bytes.AsSpan(0, read);
        if (text.StartsWith(Encoding.UTF8.Preamble))
        {
            text = text[Encoding.UTF8.Preamble.Length..];
        }

        try
        {
            return Parse(s_utf8.GetString(text), path);
        }
        catch (DecoderFallbackException)
        {
            throw new InvalidDataException($"The suppression file {path} is not UTF-8. Save it as UTF-8.");
        }
    }

    private static List<SuppressionRule> Parse(string text, string path)
    {
        List<SuppressionRule> rules = [];
        int number = 0;
        foreach (ReadOnlySpan<char> line in text.AsSpan().EnumerateLines())
        {
            number++;
            try
            {
                if (SuppressionRule.Parse(line.ToString(), $"{path}:{number}") is { } rule)
                {
                    rules.Add(rule);
                }
            }
            catch (FormatException e)
            {
                throw new InvalidDataException($"{path}:{number}: {e.Message} docs/suppressions.md has the syntax.");
            }

            if (rules.Count > MaxRules)
            {
                throw new InvalidDataException(
                    $"{path}:{number}: a suppression file has at most {MaxRules} rules. Use * to say several in one.");
            }
        }

        return rules;
    }
}
