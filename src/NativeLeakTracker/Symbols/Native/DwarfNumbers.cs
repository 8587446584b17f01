namespace NativeLeaks.Symbols.Native;

/// <summary>Tags of debugging entries. (DWARF 5, table 7.3.)</summary>
internal static class DwarfTag
{
    public const int CompileUnit = 0x11, InlinedSubroutine = 0x1d, Subprogram = 0x2e, PartialUnit = 0x3c, SkeletonUnit = 0x4a;
}

/// <summary>Attributes of debugging entries. (DWARF 5, table 7.5; those of GNU from its own extension's description.)</summary>
internal static class DwarfAttribute
{
    public const int
        Name = 0x03,
        StatementList = 0x10,
        LowPc = 0x11,
        HighPc = 0x12,
        Language = 0x13,
        CompilationFolder = 0x1b,
        AbstractOrigin = 0x31,
        Specification = 0x47,
        Ranges = 0x55,
        CallFile = 0x58,
        CallLine = 0x59,
        LinkageName = 0x6e,
        StringOffsetsBase = 0x72,
        AddressBase = 0x73,
        RangeListsBase = 0x74,
        SplitName = 0x76,
        MipsLinkageName = 0x2007,
        GnuSplitName = 0x2130,
        GnuAddressBase = 0x2133;
}

/// <summary>How attributes are encoded. (DWARF 5, table 7.6.)</summary>
internal static class DwarfForm
{
    public const int
        Address = 0x01,
        Block2 = 0x03,
        Block4 = 0x04,
        Data2 = 0x05,
        Data4 = 0x06,
        Data8 = 0x07,
        Text = 0x08,
        Block = 0x09,
        Block1 = 0x0a,
        Data1 = 0x0b,
        Flag = 0x0c,
        SignedData = 0x0d,
        StringOffset = 0x0e,
        UnsignedData = 0x0f,
        ReferenceAddress = 0x10,
        Reference1 = 0x11,
        Reference2 = 0x12,
        Reference4 = 0x13,
        Reference8 = 0x14,
        ReferenceUnsigned = 0x15,
        Indirect = 0x16,
        SectionOffset = 0x17,
        Expression = 0x18,
        FlagPresent = 0x19,
        StringIndex = 0x1a,
        AddressIndex = 0x1b,
        ReferenceSupplement4 = 0x1c,
        StringSupplement = 0x1d,
        Data16 = 0x1e,
        LineStringOffset = 0x1f,
        ReferenceSignature = 0x20,
        ImplicitConstant = 0x21,
        LocationListIndex = 0x22,
        RangeListIndex = 0x23,
        ReferenceSupplement8 = 0x24,
        StringIndex1 = 0x25,
        StringIndex2 = 0x26,
        StringIndex3 = 0x27,
        StringIndex4 = 0x28,
        AddressIndex1 = 0x29,
        AddressIndex2 = 0x2a,
        AddressIndex3 = 0x2b,
        AddressIndex4 = 0x2c,
        GnuAddressIndex = 0x1f01,
        GnuStringIndex = 0x1f02,
        GnuReferenceAlternative = 0x1f20,
        GnuStringAlternative = 0x1f21;
}
