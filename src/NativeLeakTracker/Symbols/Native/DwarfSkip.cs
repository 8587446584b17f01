using System.Runtime.CompilerServices;

namespace NativeLeaks.Symbols.Native;

/// <summary>Steps over values that nobody asked for: so many bytes, or one of a few ways to tell how many.</summary>
internal static class DwarfSkip
{
    // Everything from zero up is a number of bytes.
    private const int Leb = -1, LebBlock = -2, Block1 = -3, Block2 = -4, Block4 = -5, Text = -6, Indirect = -7, Unknown = -8;

    /// <summary>How a form is stepped over.</summary>
    public static int Of(int form, in DwarfWidths widths) => form switch
    {
        DwarfForm.FlagPresent or DwarfForm.ImplicitConstant => 0,
        DwarfForm.Data1 or DwarfForm.Flag or DwarfForm.Reference1 or DwarfForm.StringIndex1 or DwarfForm.AddressIndex1 => 1,
        DwarfForm.Data2 or DwarfForm.Reference2 or DwarfForm.StringIndex2 or DwarfForm.AddressIndex2 => 2,
        DwarfForm.StringIndex3 or DwarfForm.AddressIndex3 => 3,
        DwarfForm.Data4 or DwarfForm.Reference4 or DwarfForm.StringIndex4 or DwarfForm.AddressIndex4 or
            DwarfForm.ReferenceSupplement4 => 4,
        DwarfForm.Data8 or DwarfForm.Reference8 or DwarfForm.ReferenceSignature or DwarfForm.ReferenceSupplement8 => 8,
        DwarfForm.Data16 => 16,
        DwarfForm.Address => widths.AddressBytes,
        DwarfForm.ReferenceAddress => widths.ReferenceBytes,
        DwarfForm.StringOffset or DwarfForm.SectionOffset or DwarfForm.LineStringOffset or DwarfForm.StringSupplement or
            DwarfForm.GnuReferenceAlternative or DwarfForm.GnuStringAlternative => widths.OffsetBytes,
        DwarfForm.SignedData or DwarfForm.UnsignedData or DwarfForm.ReferenceUnsigned or DwarfForm.StringIndex or
            DwarfForm.AddressIndex or DwarfForm.LocationListIndex or DwarfForm.RangeListIndex or
            DwarfForm.GnuAddressIndex or DwarfForm.GnuStringIndex => Leb,
        DwarfForm.Block or DwarfForm.Expression => LebBlock,
        DwarfForm.Block1 => Block1,
        DwarfForm.Block2 => Block2,
        DwarfForm.Block4 => Block4,
        DwarfForm.Text => Text,
        DwarfForm.Indirect => Indirect,
        _ => Unknown,
    };

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Run(ref ByteCursor cursor, int skip)
    {
        switch (skip)
        {
            case >= 0:
                cursor.Skip((ulong)skip);
                break;
            case Leb:
                cursor.Uleb();
                break;
            case LebBlock:
                cursor.Skip(cursor.Uleb());
                break;
            case Block1:
                cursor.Skip(cursor.U8());
                break;
            case Block2:
                cursor.Skip(cursor.U16());
                break;
            case Block4:
                cursor.Skip(cursor.U32());
                break;
            case Text:
                cursor.Text();
                break;
            case Indirect:
                // Nobody writes it; the widths of a form behind it are those that all units of today have.
                int form = (int)Math.Min(cursor.Uleb(), ushort.MaxValue);
                int behind = Of(form, new DwarfWidths(4, 4, 8));
                Run(ref cursor, behind == Indirect ? Unknown : behind);
                break;
            default:
                // How long it is cannot be known, so nothing that follows can be read.
                cursor.Skip(ulong.MaxValue);
                break;
        }
    }
}
