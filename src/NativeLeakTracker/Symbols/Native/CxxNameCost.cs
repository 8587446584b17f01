namespace NativeLeaks.Symbols.Native;

/// <summary>
/// How long a C++ name can become. What it says twice it says by reference, and a few references to references stand for an endless
/// name, which the C++ runtime would print to its end. This reads the name's structure (Itanium C++ ABI, "Mangling") and adds up an
/// upper bound. Which template's argument a parameter means is not looked up: the longest one so far.
/// </summary>
internal sealed class CxxNameCost
{
    private const int MaxDepth = 150;

    // Nothing that one character stands for is longer, but std::string.
    private const long Character = 12, StandardName = 100;

    private const string BuiltinTypes = "vwbcahstijlmxynofdegz";

    // Expressions by their number of operands; what is not in here is read by itself or not at all.
    private const string Unary = "ps ng ad de co nt pp mm sz az nx sp gs te sZ";
    private const string Binary =
        "pl mi ml dv rm an or eo aS pL mI mL dV rM aN oR eO ls rs lS rS eq ne lt gt le ge ss aa oo cm pm ix";
    private const string WithType = "dc sc cc rc";

    private readonly string _name;
    private readonly long _limit;
    private int _at = 2;
    private int _depth;
    private readonly List<long> _parts = [];
    private long _longestArgument = Character;
    private int _mostArguments = 1;

    private CxxNameCost(string name, long limit)
    {
        _name = name;
        _limit = limit;
    }

    /// <summary>
    /// An upper bound of the demangled length; <see cref="long.MaxValue"/> beyond the limit; null when it does not know the form.
    /// </summary>
    public static long? Of(string name, long limit)
    {
        if (!name.StartsWith("_Z", StringComparison.Ordinal))
        {
            return null;
        }

        var cost = new CxxNameCost(name, limit);
        try
        {
            long length = cost.Encoding();

            // What compilers append to parts and copies is printed in brackets.
            return cost._at == name.Length || cost.Peek() == '.' ? length + ((name.Length - cost._at) * Character) : null;
        }
        catch (FormatException)
        {
            return null;
        }
        catch (OverflowException)
        {
            return long.MaxValue;
        }
    }

    // --- reading --------------------------------------------------------------------------------------------------------

    private char Peek(int ahead = 0) => _at + ahead < _name.Length ? _name[_at + ahead] : '\0';

    private bool TryTake(string text)
    {
        bool fits = string.CompareOrdinal(_name, _at, text, 0, text.Length) == 0;
        _at += fits ? text.Length : 0;
        return fits;
    }

    private void Take(string text)
    {
        if (!TryTake(text))
        {
            throw new FormatException();
        }
    }

    private int Number()
    {
        int start = _at;
        long value = 0;
        while (char.IsAsciiDigit(Peek()))
        {
            value = (value * 10) + (_name[_at++] - '0');
            if (value > _name.Length)
            {
                break;
            }
        }

        // Only lengths need to be small.
        while (char.IsAsciiDigit(Peek()))
        {
            _at++;
        }

        return _at > start ? (int)Math.Min(value, int.MaxValue) : throw new FormatException();
    }

    // What follows an S or T: _ is 0, 0_ is 1, Z_ is 36.
    private int Sequence()
    {
        int value = -1;
        for (; char.IsAsciiDigit(Peek()) || char.IsAsciiLetterUpper(Peek()); _at++)
        {
            int digit = char.IsAsciiDigit(Peek()) ? Peek() - '0' : Peek() - 'A' + 10;
            value = Math.Min((Math.Max(value, 0) * 36) + digit, 1 << 20);
        }

        Take("_");
        return value + 1;
    }

    private long Checked(long cost) => cost <= _limit ? cost : throw new OverflowException();

    /// <summary>A part that later references can mean: they count them in this order.</summary>
    private long Part(long cost)
    {
        _parts.Add(Checked(cost));
        return cost;
    }

    private T Nested<T>(Func<T> read)
    {
        if (++_depth > MaxDepth)
        {
            throw new FormatException();
        }

        T result = read();
        _depth--;
        return result;
    }

    private long Until(string end, Func<long> read, bool isArguments = false)
    {
        long cost = Character;
        int count = 0;
        for (; !TryTake(end); count++)
        {
            long one = read();
            cost = Checked(cost + 2 + one);
            _longestArgument = isArguments ? Math.Max(_longestArgument, one) : _longestArgument;
        }

        _mostArguments = isArguments ? Math.Max(_mostArguments, count) : _mostArguments;
        return cost;
    }

    // --- names ------------------------------------------------------------------------------------------------------------

    private long Encoding() => Nested(() =>
    {
        long cost = Special() ?? Function();
        return Checked(cost + (4 * Character));
    });

    private long Function()
    {
        long cost = Name();
        while (_at < _name.Length && Peek() is not ('E' or '.'))
        {
            cost = Checked(cost + 2 + Type());
        }

        return cost;
    }

    // Tables and thunks.
    private long? Special()
    {
        if (Peek() == 'T' && Peek(1) is 'V' or 'T' or 'I' or 'S')
        {
            _at += 2;
            return (4 * Character) + Type();
        }

        if (Peek() == 'T' && Peek(1) is 'h' or 'v')
        {
            _at++;
            CallOffset();
            return (4 * Character) + Encoding();
        }

        if (TryTake("Tc"))
        {
            CallOffset();
            CallOffset();
            return (4 * Character) + Encoding();
        }

        if (TryTake("GTt") || TryTake("GTn"))
        {
            return (4 * Character) + Encoding();
        }

        if (TryTake("GV") || TryTake("TH") || TryTake("TW"))
        {
            return (4 * Character) + Name();
        }

        if (TryTake("GR"))
        {
            long cost = (4 * Character) + Name();
            Sequence();
            return cost;
        }

        return null;
    }

    private void CallOffset()
    {
        bool isVirtual = Peek() == 'v';
        _at++;
        SignedNumber();
        if (isVirtual)
        {
            SignedNumber();
        }

        void SignedNumber()
        {
            TryTake("n");
            Number();
            Take("_");
        }
    }

    private long Name() => Nested(() =>
    {
        if (Peek() == 'N')
        {
            return NestedName();
        }

        if (TryTake("Z"))
        {
            return LocalName();
        }

        bool isPart = Peek() != 'S' || Peek(1) == 't';
        return WithArguments(Peek() == 'S' ? Standard() : Unqualified(null), isPart);
    });

    /// <summary>A template without its arguments is a part of its own, unless it is a reference already.</summary>
    private long WithArguments(long cost, bool isPart)
    {
        if (Peek() != 'I')
        {
            return cost;
        }

        if (isPart)
        {
            Part(cost);
        }

        return Checked(cost + TemplateArguments());
    }

    // St and a name; an abbreviation; a reference.
    private long Standard()
    {
        if (TryTake("St"))
        {
            return Character + Unqualified(null);
        }

        _at++;
        if (Peek() is 'a' or 'b' or 's' or 'i' or 'o' or 'd')
        {
            _at++;
            return StandardName + Tags();
        }

        int part = Sequence();
        return part < _parts.Count ? _parts[part] : throw new FormatException();
    }

    private long NestedName()
    {
        Take("N");
        long cost = 0;
        for (; Peek() is 'r' or 'V' or 'K' or 'R' or 'O'; _at++)
        {
            cost += Character;
        }

        long last = Character;
        while (!TryTake("E"))
        {
            bool isReference = Peek() == 'S', isArguments = Peek() == 'I';
            long component = Peek() switch
            {
                'S' => Peek(1) == 't' ? Skip(2) : Standard(),
                'T' => Parameter(),
                'I' => TemplateArguments(),
                'D' when Peek(1) is 't' or 'T' => TypeOfD(),
                'M' => Skip(1),
                _ => Unqualified(last),
            };
            last = isArguments ? last : component;
            cost = Checked(cost + component);
            if (!isReference && Peek() != 'E')
            {
                Part(cost);
            }
        }

        return cost;

        long Skip(int characters)
        {
            _at += characters;
            return Character;
        }
    }

    private long LocalName()
    {
        long cost = Encoding();
        Take("E");
        if (TryTake("s"))
        {
            cost += 2 * Character;
        }
        else if (TryTake("d"))
        {
            Sequence();
            cost += (2 * Character) + Name();
        }
        else
        {
            cost += Name();
        }

        // _1 or __12_
        if (TryTake("__"))
        {
            Number();
            Take("_");
        }
        else if (TryTake("_"))
        {
            Number();
        }

        return Checked(cost);
    }

    /// <param name="class">The name that a constructor repeats.</param>
    private long Unqualified(long? @class)
    {
        TryTake("L");
        char first = Peek();
        if (char.IsAsciiDigit(first))
        {
            return SourceName() + Tags();
        }

        if (first is 'C' or 'D' && (char.IsAsciiDigit(Peek(1)) || (first == 'C' && Peek(1) == 'I')))
        {
            _at++;
            bool isInherited = TryTake("I");
            _at++;

            // Called like its class, with the class's arguments left out.
            return (@class ?? throw new FormatException()) + Character + (isInherited ? Type() : 0) + Tags();
        }

        if (TryTake("Ut"))
        {
            Sequence();
            return 4 * Character;
        }

        if (TryTake("Ul"))
        {
            long cost = Until("E", Type);
            Sequence();
            return cost + (2 * Character);
        }

        return Operator() + Tags();
    }

    private long Operator()
    {
        if (!char.IsAsciiLetterLower(Peek()))
        {
            throw new FormatException();
        }

        // A conversion's type may mean arguments that come only after it, so how long it is cannot be known here.
        if (TryTake("cv"))
        {
            int start = _at;
            long cost = Character + Type();
            return _name.AsSpan(start, _at - start).Contains('T') ? throw new FormatException() : cost;
        }

        if (TryTake("li"))
        {
            return Character + SourceName();
        }

        if (!char.IsAsciiLetter(Peek(1)))
        {
            throw new FormatException();
        }

        _at += 2;
        return 2 * Character;
    }

    private long SourceName()
    {
        int length = Number();
        if (length == 0 || length > _name.Length - _at)
        {
            throw new FormatException();
        }

        _at += length;
        return length + Character;
    }

    private long Tags()
    {
        long cost = 0;
        while (TryTake("B"))
        {
            cost += SourceName();
        }

        return cost;
    }

    // --- templates ------------------------------------------------------------------------------------------------------------

    private long TemplateArguments() => Nested(() =>
    {
        Take("I");
        return Until("E", Argument, isArguments: true);
    });

    private long Argument() => Nested(() =>
    {
        if (TryTake("J"))
        {
            return Until("E", Argument, isArguments: true);
        }

        if (TryTake("X"))
        {
            long cost = Expression();
            Take("E");
            return cost;
        }

        return Peek() == 'L' ? Literal() : Type();
    });

    private long Parameter()
    {
        Take("T");
        Sequence();
        return _longestArgument;
    }

    // --- types ----------------------------------------------------------------------------------------------------------------

    private long Type() => Nested(() =>
    {
        // Types of the language are no parts, and references are none again.
        bool isPart = Peek() switch
        {
            'S' => Peek(1) == 't' || IsTemplate(),
            'D' => Peek(1) is 'p' or 't' or 'T' or 'v' or 'o' or 'O' or 'w' or 'x',
            var first => first != 'u' && !char.IsAsciiLetterLower(first) || first is 'r',
        };
        long cost = TypeWithin();
        return isPart ? Part(cost) : cost;
    });

    // S_I...E, SaI...E
    private bool IsTemplate()
    {
        int end = _at + 1;
        if (char.IsAsciiLetterLower(Peek(1)))
        {
            end++;
        }
        else
        {
            while (end < _name.Length && _name[end++] != '_')
            {
            }
        }

        return end < _name.Length && _name[end] == 'I';
    }

    private long TypeWithin()
    {
        char first = Peek();
        switch (first)
        {
            case 'r' or 'V' or 'K':
                long qualifiers = 0;
                for (; Peek() is 'r' or 'V' or 'K'; _at++)
                {
                    qualifiers += Character;
                }

                return qualifiers + (Peek() == 'F' ? TypeWithin() : Type());
            case 'P' or 'R' or 'O' or 'C' or 'G':
                _at++;
                return Character + Type();
            case 'U':
                _at++;
                long qualifier = WithArguments(SourceName(), isPart: false);
                return qualifier + Type();
            case 'u':
                _at++;
                return SourceName();
            case 'D':
                return TypeOfD();
            case 'F':
                _at++;
                TryTake("Y");
                return (2 * Character) + Until("E", () => Peek() is 'R' or 'O' && Peek(1) == 'E' ? Skip() : Type());
            case 'A':
                _at++;
                long dimension = Character * 3;
                if (char.IsAsciiDigit(Peek()))
                {
                    Number();
                }
                else if (Peek() != '_')
                {
                    dimension += Expression();
                }

                Take("_");
                return dimension + Type();
            case 'M':
                _at++;
                return Character + Type() + Type();
            case 'T' when Peek(1) is not ('s' or 'u' or 'e'):
                return WithArguments(Parameter(), isPart: true);
            case 'S' when Peek(1) != 't':
                return WithArguments(Standard(), isPart: false);
            case 'S' or 'N' or 'Z' or (>= '0' and <= '9'):
                return Name();
            default:
                if (!BuiltinTypes.Contains(first))
                {
                    throw new FormatException();
                }

                return Skip() * 2;
        }

        long Skip()
        {
            _at++;
            return Character;
        }
    }

    private long TypeOfD()
    {
        char second = Peek(1);
        _at += 2;
        switch (second)
        {
            case 'p':
                return Checked((Type() + Character) * (_mostArguments + 1));
            case 't' or 'T':
                long expression = (2 * Character) + Expression();
                Take("E");
                return expression;
            case 'd' or 'e' or 'f' or 'h' or 'i' or 's' or 'u' or 'a' or 'c' or 'n':
                return 2 * Character;
            case 'F':
                Number();
                Take("_");
                return 2 * Character;
            case 'v':
                long count = TryTake("_") ? Expression() : Number();
                Take("_");
                return count + (2 * Character) + Type();
            case 'o' or 'x':
                return (2 * Character) + Type();
            case 'O':
                long condition = (2 * Character) + Expression();
                Take("E");
                return condition + Type();
            case 'w':
                return (2 * Character) + Until("E", Type) + Type();
            default:
                throw new FormatException();
        }
    }

    // --- expressions ----------------------------------------------------------------------------------------------------------

    private long Literal()
    {
        Take("L");
        if (TryTake("_Z"))
        {
            long encoding = Encoding();
            Take("E");
            return encoding;
        }

        long cost = Type() + Character;
        for (TryTake("n"); char.IsAsciiHexDigitLower(Peek()) || Peek() == '_'; _at++)
        {
            cost++;
        }

        Take("E");
        return cost;
    }

    private long Expression() => Nested(() => Checked(ExpressionWithin() + (3 * Character)));

    private long ExpressionWithin()
    {
        switch (Peek())
        {
            case 'L':
                return Literal();
            case 'T':
                return Parameter();
            case >= '0' and <= '9':
                return WithArguments(SourceName() + Tags(), isPart: false);
            case 'f' when Peek(1) == 'p' || (Peek(1) == 'L' && char.IsAsciiDigit(Peek(2))):
                if (Peek(1) == 'L')
                {
                    _at += 2;
                    Number();
                    Take("p");
                }
                else
                {
                    _at += 2;
                }

                while (Peek() is 'r' or 'V' or 'K')
                {
                    _at++;
                }

                TryTake("T");
                Sequence();
                return Character;
        }

        string code = _at + 2 <= _name.Length ? _name.Substring(_at, 2) : throw new FormatException();
        _at += 2;
        switch (code)
        {
            case "cl" or "il":
                return Until("E", Expression);
            case "tl":
                return Type() + Until("E", Expression);
            case "cv":
                long type = Type();
                return type + (TryTake("_") ? Until("E", Expression) : Expression());
            case "st" or "at" or "ti":
                return Type();
            case "sr":
                long scope = Type();
                return scope + WithArguments(Unqualified(null), isPart: false);
            case "dt" or "pt":
                return Expression() + Member();
            case "on":
                return WithArguments(Operator(), isPart: false);
            case "qu":
                return Expression() + Expression() + Expression();
            case "tr":
                return Character;
            case "sp":
                return Checked(Expression() * (_mostArguments + 1));
        }

        // Increments in front of their operand are told by an underscore.
        if (code is "pp" or "mm")
        {
            TryTake("_");
        }

        return Contains(Unary, code) ? Expression()
            : Contains(Binary, code) ? Expression() + Expression()
            : Contains(WithType, code) ? Type() + Expression()
            : throw new FormatException();

        long Member() => char.IsAsciiDigit(Peek()) ? WithArguments(SourceName(), isPart: false) : Expression();
    }

    private static bool Contains(string codes, string code)
    {
        int at = codes.IndexOf(code, StringComparison.Ordinal);
        return at >= 0 && at % 3 == 0;
    }
}
