using System.Text;

namespace NativeLeaks.Symbols.Native;

/// <summary>
/// Identifiers with characters beyond ASCII (RFC 3492): the ASCII characters, an underscore, and where the others belong.
/// </summary>
internal static class Punycode
{
    private const int Base = 36, MinThreshold = 1, MaxThreshold = 26, Skew = 38, Damp = 700, FirstBias = 72, FirstCode = 0x80;

    /// <summary>The identifier; null when it is not a valid one. Time is quadratic in the length.</summary>
    public static string? Decode(string encoded)
    {
        int delimiter = encoded.LastIndexOf('_');
        List<Rune> characters = [.. (delimiter < 0 ? "" : encoded[..delimiter]).EnumerateRunes()];
        long code = FirstCode, position = 0;
        int bias = FirstBias;
        for (int at = delimiter + 1; at < encoded.Length;)
        {
            if (ReadDelta(encoded, ref at, bias) is not { } delta)
            {
                return null;
            }

            position += delta;
            int count = characters.Count + 1;
            bias = Adapt(delta, count, isFirst: count == (delimiter < 0 ? 0 : delimiter) + 1);
            code += position / count;
            position %= count;
            if (code > int.MaxValue || !Rune.TryCreate((int)code, out Rune character))
            {
                return null;
            }

            characters.Insert((int)position++, character);
        }

        return delimiter == encoded.Length - 1 ? null : string.Concat(characters);
    }

    private static long? ReadDelta(string encoded, ref int at, int bias)
    {
        long delta = 0, weight = 1;
        for (int k = Base; at < encoded.Length; k += Base)
        {
            int digit = encoded[at++] switch
            {
                >= 'a' and <= 'z' and var c => c - 'a',
                >= 'A' and <= 'Z' and var c => c - 'A',
                >= '0' and <= '9' and var c => c - '0' + 26,
                _ => int.MaxValue,
            };
            int threshold = Math.Clamp(k - bias, MinThreshold, MaxThreshold);
            delta += digit * weight;
            weight *= Base - threshold;
            if (delta > int.MaxValue || weight > int.MaxValue)
            {
                return null;
            }

            if (digit < threshold)
            {
                return delta;
            }
        }

        return null;
    }

    private static int Adapt(long delta, int count, bool isFirst)
    {
        delta = isFirst ? delta / Damp : delta / 2;
        delta += delta / count;
        int k = 0;
        for (; delta > (Base - MinThreshold) * MaxThreshold / 2; k += Base)
        {
            delta /= Base - MinThreshold;
        }

        return k + (int)((Base - MinThreshold + 1) * delta / (delta + Skew));
    }
}
