using System.Runtime.CompilerServices;

namespace NativeLeaks.Symbols.Native;

/// <summary>What the number in a <see cref="DwarfValue"/> means.</summary>
internal enum DwarfValueKind : byte
{
    /// <summary>Nothing that is needed here: a block, a signature.</summary>
    Other,
    Constant,
    Address,
    AddressIndex,

    /// <summary>An offset into a section that the attribute tells.</summary>
    SectionOffset,
    RangeListIndex,

    /// <summary>A string in .debug_info itself.</summary>
    TextInInfo,

    /// <summary>A string in .debug_line itself.</summary>
    TextInLines,
    TextInStrings,
    TextInLineStrings,
    TextIndex,
    TextInSupplement,

    /// <summary>An entry, from the beginning of .debug_info.</summary>
    Entry,
    EntryInSupplement,
}

/// <summary>How wide the values of a unit are that have no width of their own.</summary>
internal readonly record struct DwarfWidths(byte Version, byte OffsetBytes, byte AddressBytes)
{
    /// <summary>In the second version such a reference had the width of an address.</summary>
    public int ReferenceBytes => Version <= 2 ? AddressBytes : OffsetBytes;
}

/// <summary>An attribute's value: not looked up anywhere yet.</summary>
internal readonly record struct DwarfValue(DwarfValueKind Kind, ulong Number)
{
    private const int MaxIndirections = 4;

    /// <summary>Reads a value. References within a unit become offsets from the beginning of .debug_info.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static DwarfValue Read(ref ByteCursor cursor, int form, long implicitConstant, in DwarfWidths widths, int unitAt)
    {
        for (int i = 0; form == DwarfForm.Indirect && i < MaxIndirections; i++)
        {
            form = (int)Math.Min(cursor.Uleb(), ushort.MaxValue);
        }

        switch (form)
        {
            case DwarfForm.Address:
                return new(DwarfValueKind.Address, cursor.Unsigned(widths.AddressBytes));
            case DwarfForm.Data1 or DwarfForm.Flag:
                return new(DwarfValueKind.Constant, cursor.U8());
            case DwarfForm.Data2:
                return new(DwarfValueKind.Constant, cursor.U16());
            case DwarfForm.Data4:
                return new(DwarfValueKind.Constant, cursor.U32());
            case DwarfForm.Data8:
                return new(DwarfValueKind.Constant, cursor.U64());
            case DwarfForm.UnsignedData:
                return new(DwarfValueKind.Constant, cursor.Uleb());
            case DwarfForm.SignedData:
                return new(DwarfValueKind.Constant, (ulong)cursor.Sleb());
            case DwarfForm.ImplicitConstant:
                return new(DwarfValueKind.Constant, (ulong)implicitConstant);
            case DwarfForm.FlagPresent:
                return new(DwarfValueKind.Constant, 1);
            case DwarfForm.SectionOffset:
                return new(DwarfValueKind.SectionOffset, cursor.Unsigned(widths.OffsetBytes));
            case DwarfForm.RangeListIndex:
                return new(DwarfValueKind.RangeListIndex, cursor.Uleb());
            case DwarfForm.AddressIndex or DwarfForm.GnuAddressIndex:
                return new(DwarfValueKind.AddressIndex, cursor.Uleb());
            case >= DwarfForm.AddressIndex1 and <= DwarfForm.AddressIndex4:
                return new(DwarfValueKind.AddressIndex, cursor.Unsigned(form - DwarfForm.AddressIndex1 + 1));
            case DwarfForm.Text:
                int at = cursor.At;
                cursor.Text();
                return new(DwarfValueKind.TextInInfo, (ulong)at);
            case DwarfForm.StringOffset:
                return new(DwarfValueKind.TextInStrings, cursor.Unsigned(widths.OffsetBytes));
            case DwarfForm.LineStringOffset:
                return new(DwarfValueKind.TextInLineStrings, cursor.Unsigned(widths.OffsetBytes));
            case DwarfForm.StringIndex or DwarfForm.GnuStringIndex:
                return new(DwarfValueKind.TextIndex, cursor.Uleb());
            case >= DwarfForm.StringIndex1 and <= DwarfForm.StringIndex4:
                return new(DwarfValueKind.TextIndex, cursor.Unsigned(form - DwarfForm.StringIndex1 + 1));
            case DwarfForm.StringSupplement or DwarfForm.GnuStringAlternative:
                return new(DwarfValueKind.TextInSupplement, cursor.Unsigned(widths.OffsetBytes));
            case DwarfForm.Reference1:
                return new(DwarfValueKind.Entry, (ulong)unitAt + cursor.U8());
            case DwarfForm.Reference2:
                return new(DwarfValueKind.Entry, (ulong)unitAt + cursor.U16());
            case DwarfForm.Reference4:
                return new(DwarfValueKind.Entry, (ulong)unitAt + cursor.U32());
            case DwarfForm.Reference8:
                return new(DwarfValueKind.Entry, (ulong)unitAt + cursor.U64());
            case DwarfForm.ReferenceUnsigned:
                return new(DwarfValueKind.Entry, (ulong)unitAt + cursor.Uleb());
            case DwarfForm.ReferenceAddress:
                return new(DwarfValueKind.Entry, cursor.Unsigned(widths.ReferenceBytes));
            case DwarfForm.GnuReferenceAlternative:
                return new(DwarfValueKind.EntryInSupplement, cursor.Unsigned(widths.OffsetBytes));
            case DwarfForm.ReferenceSupplement4:
                return new(DwarfValueKind.EntryInSupplement, cursor.U32());
            case DwarfForm.ReferenceSupplement8:
                return new(DwarfValueKind.EntryInSupplement, cursor.U64());
            default:
                DwarfSkip.Run(ref cursor, DwarfSkip.Of(form, widths));
                return default;
        }
    }
}
