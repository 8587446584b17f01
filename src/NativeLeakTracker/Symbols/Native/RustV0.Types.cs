using System.Globalization;

namespace NativeLeaks.Symbols.Native;

// Types, and the lifetimes in them.
internal sealed partial class RustV0
{
    private static string? BasicType(char tag) => tag switch
    {
        'a' => "i8",
        'b' => "bool",
        'c' => "char",
        'd' => "f64",
        'e' => "str",
        'f' => "f32",
        'h' => "u8",
        'i' => "isize",
        'j' => "usize",
        'l' => "i32",
        'm' => "u32",
        'n' => "i128",
        'o' => "u128",
        'p' => "_",
        's' => "i16",
        't' => "u16",
        'u' => "()",
        'v' => "...",
        'x' => "i64",
        'y' => "u64",
        'z' => "!",
        _ => null,
    };

    private void PrintType() => Nested(() =>
    {
        char tag = Next();
        if (BasicType(tag) is { } basic)
        {
            Print(basic);
            return;
        }

        switch (tag)
        {
            case 'R' or 'Q':
                PrintReference(tag == 'Q' ? "mut " : "");
                break;
            case 'P':
                Print("*const ");
                PrintType();
                break;
            case 'O':
                Print("*mut ");
                PrintType();
                break;
            case 'A':
                Print("[");
                PrintType();
                Print("; ");
                PrintConst(inValue: true);
                Print("]");
                break;
            case 'S':
                Print("[");
                PrintType();
                Print("]");
                break;
            case 'T':
                Print("(");
                Print(PrintList(", ", PrintType) == 1 ? ",)" : ")");
                break;
            case 'F':
                Bound(PrintFunction);
                break;
            case 'D':
                PrintDynamic();
                break;
            case 'B':
                Referred(PrintType);
                break;
            default:
                _at--;
                PrintPath(inValue: false);
                break;
        }
    });

    private void PrintReference(string mutability)
    {
        Print("&");
        if (TryTake('L') && Base62() is > 0 and var lifetime)
        {
            PrintLifetime(lifetime);
            Print(" ");
        }

        Print(mutability);
        PrintType();
    }

    private void PrintFunction()
    {
        Print(TryTake('U') ? "unsafe " : "");
        if (TryTake('K'))
        {
            string abi = TryTake('C') ? "C" : Identifier();
            Print($"extern \"{abi.Replace('_', '-')}\" ");
        }

        Print("fn(");
        PrintList(", ", PrintType);
        Print(")");
        if (!TryTake('u'))
        {
            Print(" -> ");
            PrintType();
        }
    }

    private void PrintDynamic()
    {
        Print("dyn ");
        Bound(() => PrintList(" + ", PrintDynamicTrait));
        if (!TryTake('L'))
        {
            throw Invalid();
        }

        if (Base62() is > 0 and var lifetime)
        {
            Print(" + ");
            PrintLifetime(lifetime);
        }
    }

    // A trait and what its associated types are bound to, in the same brackets as its arguments.
    private void PrintDynamicTrait()
    {
        bool isOpen = PrintPathLeftOpen();
        while (TryTake('p'))
        {
            Print(isOpen ? ", " : "<");
            isOpen = true;
            Print(Identifier());
            Print(" = ");
            PrintType();
        }

        Print(isOpen ? ">" : "");
    }

    private bool PrintPathLeftOpen()
    {
        bool isOpen = false;
        if (TryTake('B'))
        {
            Referred(() => isOpen = PrintPathLeftOpen());
        }
        else if (TryTake('I'))
        {
            PrintPath(inValue: false);
            Print("<");
            PrintList(", ", PrintGenericArgument);
            isOpen = true;
        }
        else
        {
            PrintPath(inValue: false);
        }

        return isOpen;
    }

    /// <summary>Lifetimes that a <c>for&lt;'a, 'b&gt;</c> introduces, if there is one, around what uses them.</summary>
    private void Bound(Action print)
    {
        ulong count = OptionalBase62('G');
        if (count > (ulong)_text.Length)
        {
            throw Invalid();
        }

        _boundLifetimes += (int)count;
        if (count > 0)
        {
            Print("for<");
            for (ulong index = count; index > 0; index--)
            {
                PrintLifetime(index);
                Print(index > 1 ? ", " : "> ");
            }
        }

        print();
        _boundLifetimes -= (int)count;
    }

    // Counted from the innermost outwards; 0 is one that was erased.
    private void PrintLifetime(ulong index)
    {
        if (index == 0)
        {
            Print("'_");
            return;
        }

        // What a skipped part binds was not counted when a reference leads into it.
        if (index > (ulong)_boundLifetimes)
        {
            if (_silent > 0)
            {
                return;
            }

            throw Invalid();
        }

        int depth = _boundLifetimes - (int)index;
        Print(depth < 26 ? $"'{(char)('a' + depth)}" : $"'_{depth.ToString(CultureInfo.InvariantCulture)}");
    }
}
