using System.Globalization;
using System.Numerics;
using System.Text;

namespace NativeLeaks.Symbols.Native;

// Constants that are arguments of generics or lengths of arrays.
internal sealed partial class RustV0
{
    // As an argument, what is not a plain literal stands in braces.
    private void PrintConst(bool inValue) => Nested(() =>
    {
        char tag = Next();
        switch (tag)
        {
            case 'p':
                Print("_");
                break;
            case 'h' or 't' or 'm' or 'y' or 'o' or 'j':
                PrintInteger();
                break;
            case 'a' or 's' or 'l' or 'x' or 'n' or 'i':
                Print(TryTake('n') ? "-" : "");
                PrintInteger();
                break;
            case 'b':
                Print(HexDigits() switch { "0" => "false", "1" => "true", _ => throw Invalid() });
                break;
            case 'c':
                PrintCharacter();
                break;
            case 'e':
                InBraces(inValue, () =>
                {
                    Print("*");
                    PrintString();
                });
                break;
            case 'R' when TryTake('e'):
                PrintString();
                break;
            case 'R' or 'Q':
                InBraces(inValue, () =>
                {
                    Print(tag == 'Q' ? "&mut " : "&");
                    PrintConst(inValue: true);
                });
                break;
            case 'A':
                InBraces(inValue, () =>
                {
                    Print("[");
                    PrintList(", ", () => PrintConst(inValue: true));
                    Print("]");
                });
                break;
            case 'T':
                InBraces(inValue, () =>
                {
                    Print("(");
                    Print(PrintList(", ", () => PrintConst(inValue: true)) == 1 ? ",)" : ")");
                });
                break;
            case 'V':
                InBraces(inValue, PrintStructure);
                break;
            case 'B':
                Referred(() => PrintConst(inValue));
                break;
            default:
                throw Invalid();
        }
    });

    private void InBraces(bool inValue, Action print)
    {
        Print(inValue ? "" : "{");
        print();
        Print(inValue ? "" : "}");
    }

    private void PrintStructure()
    {
        PrintPath(inValue: true);
        switch (Next())
        {
            case 'U':
                break;
            case 'T':
                Print("(");
                PrintList(", ", () => PrintConst(inValue: true));
                Print(")");
                break;
            case 'S':
                Print(" { ");
                PrintList(", ", () =>
                {
                    OptionalBase62('s');
                    Print(Identifier());
                    Print(": ");
                    PrintConst(inValue: true);
                });
                Print(" }");
                break;
            default:
                throw Invalid();
        }
    }

    private string HexDigits()
    {
        int start = _at;
        while (!TryTake('_'))
        {
            if (!char.IsAsciiHexDigitLower(Next()))
            {
                throw Invalid();
            }
        }

        return _text[start..(_at - 1)];
    }

    private void PrintInteger()
    {
        string digits = HexDigits();
        string significant = digits.TrimStart('0');
        Print(
            digits.Length == 0 ? throw Invalid()
            : significant.Length > 16 ? "0x" + significant
            : BigInteger.Parse("0" + digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture)
                .ToString(CultureInfo.InvariantCulture));
    }

    private void PrintCharacter()
    {
        string digits = HexDigits();
        if (digits.Length is 0 or > 6 || !Rune.TryCreate(Convert.ToInt32(digits, 16), out Rune character))
        {
            throw Invalid();
        }

        Print($"'{Escape(character, '\'')}'");
    }

    // The bytes of its UTF-8, two digits each.
    private void PrintString()
    {
        string digits = HexDigits();
        if (digits.Length % 2 != 0)
        {
            throw Invalid();
        }

        StringBuilder text = new("\"");
        foreach (Rune character in Encoding.UTF8.GetString(Convert.FromHexString(digits)).EnumerateRunes())
        {
            text.Append(Escape(character, '"'));
        }

        Print(text.Append('"').ToString());
    }

    private static string Escape(Rune character, char quote) => character.Value switch
    {
        '\0' => "\\0",
        '\t' => "\\t",
        '\r' => "\\r",
        '\n' => "\\n",
        '\\' => "\\\\",
        var value when value == quote => "\\" + quote,
        var value when Rune.IsControl(character) => $"\\u{{{value.ToString("x", CultureInfo.InvariantCulture)}}}",
        _ => character.ToString(),
    };
}
