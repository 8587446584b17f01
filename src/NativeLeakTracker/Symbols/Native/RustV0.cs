using System.Globalization;
using System.Text;

namespace NativeLeaks.Symbols.Native;

/// <summary>
/// Rust's newer mangling, "v0" (RFC 2603 and its amendment for structured constants): <c>_R</c>, a path, perhaps the crate that made
/// an instance of it. Hashes of crates and numbers that only keep names apart are left out. References to earlier parts
/// can make a short name stand for an endless one: depth, output and work have limits.
/// </summary>
internal sealed partial class RustV0
{
    private const int MaxDepth = 200;
    private const int MaxSteps = 50_000;

    private readonly string _text;
    private readonly StringBuilder _out = new();
    private int _at;
    private int _depth;
    private int _steps;
    private int _silent;
    private int _boundLifetimes;

    private RustV0(string text) => _text = text;

    /// <summary>The path; null when the name is not of this mangling or goes beyond the limits.</summary>
    public static string? Demangle(string name)
    {
        // Positions count from behind the prefix. Compilers append what begins with a dot to parts and copies.
        int end = name.IndexOf('.');
        string text = end < 0 ? name[2..] : name[2..end];
        if (!name.StartsWith("_R", StringComparison.Ordinal) || !text.All(IsAllowed) || text is not [>= 'A' and <= 'Z', ..])
        {
            return null;
        }

        var demangler = new RustV0(text);
        try
        {
            demangler.PrintPath(inValue: true);
            if (demangler._at < text.Length)
            {
                demangler._silent++;
                demangler.PrintPath(inValue: false);
            }

            return demangler._at == text.Length ? demangler._out.ToString() : null;
        }
        catch (FormatException)
        {
            return null;
        }
    }

    private static bool IsAllowed(char c) => char.IsAsciiLetterOrDigit(c) || c == '_';

    private static FormatException Invalid() => new("Not a name of this mangling.");

    // --- what is read ---------------------------------------------------------------------------------------------------

    private char Peek() => _at < _text.Length ? _text[_at] : '\0';

    private char Next() => _at < _text.Length ? _text[_at++] : throw Invalid();

    private bool TryTake(char c)
    {
        if (Peek() != c)
        {
            return false;
        }

        _at++;
        return true;
    }

    /// <summary><c>_</c> is 0, <c>0_</c> is 1, digits go on with small and then capital letters.</summary>
    private ulong Base62()
    {
        if (TryTake('_'))
        {
            return 0;
        }

        UInt128 value = 0;
        for (char c = Next(); c != '_'; c = Next())
        {
            int digit = c switch
            {
                >= '0' and <= '9' => c - '0',
                >= 'a' and <= 'z' => c - 'a' + 10,
                _ => c - 'A' + 36,
            };
            value = (value * 62) + (UInt128)digit;
            if (value >= ulong.MaxValue)
            {
                throw Invalid();
            }
        }

        return (ulong)value + 1;
    }

    /// <summary>A number behind a letter; 0 without the letter.</summary>
    private ulong OptionalBase62(char tag) => TryTake(tag) ? checked(Base62() + 1) : 0;

    private int Decimal()
    {
        if (!char.IsAsciiDigit(Peek()))
        {
            throw Invalid();
        }

        if (TryTake('0'))
        {
            return 0;
        }

        int value = 0;
        while (char.IsAsciiDigit(Peek()))
        {
            value = (value * 10) + (Next() - '0');
            if (value > _text.Length)
            {
                throw Invalid();
            }
        }

        return value;
    }

    private string Identifier()
    {
        bool isPunycode = TryTake('u');
        int length = Decimal();
        TryTake('_');
        if (length > _text.Length - _at)
        {
            throw Invalid();
        }

        string identifier = _text.Substring(_at, length);
        _at += length;
        return isPunycode ? Punycode.Decode(identifier) ?? throw Invalid() : identifier;
    }

    // --- what is printed -------------------------------------------------------------------------------------------------

    private void Print(string text)
    {
        if (_silent > 0)
        {
            return;
        }

        if (_out.Length + text.Length > Demangler.MaxDemangledLength)
        {
            throw Invalid();
        }

        _out.Append(text);
    }

    /// <summary>Items up to an E.</summary>
    private int PrintList(string separator, Action print)
    {
        int count = 0;
        for (; !TryTake('E'); count++)
        {
            Print(count == 0 ? "" : separator);
            print();
        }

        return count;
    }

    /// <summary>One level deeper.</summary>
    private void Nested(Action print)
    {
        if (++_depth > MaxDepth || ++_steps > MaxSteps)
        {
            throw Invalid();
        }

        print();
        _depth--;
    }

    /// <summary>What stands at an earlier position of the name, printed again. It may itself refer back.</summary>
    private void Referred(Action print)
    {
        int self = _at - 1;
        ulong target = Base62();
        if (target >= (ulong)self)
        {
            throw Invalid();
        }

        if (_silent > 0)
        {
            return;
        }

        int after = _at;
        _at = (int)target;
        Nested(print);
        _at = after;
    }

    // --- paths ------------------------------------------------------------------------------------------------------------

    private void PrintPath(bool inValue) => Nested(() =>
    {
        switch (Next())
        {
            case 'C':
                OptionalBase62('s');
                Print(Identifier());
                break;
            case 'N':
                PrintNested(inValue);
                break;
            case 'M':
                SkipImplPath();
                Print("<");
                PrintType();
                Print(">");
                break;
            case 'X':
                SkipImplPath();
                PrintTraitImplementation();
                break;
            case 'Y':
                PrintTraitImplementation();
                break;
            case 'I':
                PrintPath(inValue);
                Print(inValue ? "::<" : "<");
                PrintList(", ", PrintGenericArgument);
                Print(">");
                break;
            case 'B':
                Referred(() => PrintPath(inValue));
                break;
            default:
                throw Invalid();
        }
    });

    private void PrintTraitImplementation()
    {
        Print("<");
        PrintType();
        Print(" as ");
        PrintPath(inValue: false);
        Print(">");
    }

    private void SkipImplPath()
    {
        OptionalBase62('s');
        _silent++;
        PrintPath(inValue: false);
        _silent--;
    }

    private void PrintNested(bool inValue)
    {
        char space = Next();
        PrintPath(inValue);
        ulong number = OptionalBase62('s');
        string name = Identifier();
        switch (space)
        {
            // Closures and shims have no name of their own; there the number tells them apart.
            case >= 'A' and <= 'Z':
                string kind = space switch { 'C' => "closure", 'S' => "shim", _ => space.ToString() };
                Print($"::{{{kind}{(name.Length > 0 ? ":" : "")}{name}#{number.ToString(CultureInfo.InvariantCulture)}}}");
                break;
            case >= 'a' and <= 'z':
                Print(name.Length > 0 ? "::" : "");
                Print(name);
                break;
            default:
                throw Invalid();
        }
    }

    private void PrintGenericArgument()
    {
        if (TryTake('L'))
        {
            PrintLifetime(Base62());
        }
        else if (TryTake('K'))
        {
            PrintConst(inValue: false);
        }
        else
        {
            PrintType();
        }
    }
}
