using System.Runtime.CompilerServices;

namespace NativeLeaks.Symbols.Native;

/// <summary>An attribute that entries of a kind have, and how it is encoded.</summary>
internal readonly record struct DwarfAttributeForm(ushort Name, ushort Form, long ImplicitConstant);

/// <summary>A kind of entries: its tag, attributes, and how such an entry is stepped over.</summary>
internal struct DwarfAbbreviation
{
    public ulong Code;
    public int Tag;
    public bool HasChildren;

    /// <summary>Whether entries of the kind say where their code is.</summary>
    public bool HasCode;
    public int FirstAttribute, AttributeCount;

    /// <summary>Bytes of the attributes of every such entry; negative when they differ.</summary>
    public int FixedBytes;
    public int FirstSkip, SkipCount;
}

/// <summary>The kinds of entries that units share, compiled so that entries nobody asked for cost little. (DWARF 5, 7.5.3.)</summary>
internal sealed class DwarfAbbreviations
{
    private readonly List<DwarfAttributeForm> _attributes = [];
    private readonly List<int> _skips = [];
    private DwarfAbbreviation[] _kinds = new DwarfAbbreviation[64];
    private int _count;
    private Dictionary<ulong, int>? _byCode;
    private DwarfAttributeForm[] _attributeArray = [];
    private int[] _skipArray = [];

    /// <summary>Reads one table; one that is damaged ends where the damage begins.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static DwarfAbbreviations Read(byte[] section, ulong at, in DwarfWidths widths, DwarfLimits limits)
    {
        var table = new DwarfAbbreviations();
        var cursor = new ByteCursor(section, (int)Math.Min(at, int.MaxValue), section.Length);
        while (!cursor.IsAtEnd)
        {
            ulong code = cursor.Uleb();
            if (code == 0 || !table.ReadKind(ref cursor, code, widths, limits))
            {
                break;
            }
        }

        table._attributeArray = [.. table._attributes];
        table._skipArray = [.. table._skips];
        return table;
    }

    public ReadOnlySpan<DwarfAttributeForm> AttributesOf(in DwarfAbbreviation kind) =>
        _attributeArray.AsSpan(kind.FirstAttribute, kind.AttributeCount);

    /// <summary>The kind with a code; its code is 0 when there is none.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ref readonly DwarfAbbreviation Find(ulong code)
    {
        // Compilers number them from one on.
        ulong index = code - 1;
        if (index < (ulong)_count && _kinds[index].Code == code)
        {
            return ref _kinds[index];
        }

        return ref FindAnywhere(code);
    }

    /// <summary>Steps over the attributes of an entry.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Skip(ref ByteCursor cursor, in DwarfAbbreviation kind)
    {
        if (kind.FixedBytes >= 0)
        {
            cursor.Skip((ulong)kind.FixedBytes);
        }
        else
        {
            SkipParts(ref cursor, kind);
        }
    }

    private ref readonly DwarfAbbreviation FindAnywhere(ulong code)
    {
        if (_byCode is null)
        {
            _byCode = [];
            for (int i = 0; i < _count; i++)
            {
                _byCode.TryAdd(_kinds[i].Code, i);
            }
        }

        return ref _byCode.TryGetValue(code, out int found) ? ref _kinds[found] : ref s_none;
    }

    private static readonly DwarfAbbreviation s_none;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void SkipParts(ref ByteCursor cursor, in DwarfAbbreviation kind)
    {
        foreach (int skip in _skipArray.AsSpan(kind.FirstSkip, kind.SkipCount))
        {
            DwarfSkip.Run(ref cursor, skip);
        }
    }

    private bool ReadKind(ref ByteCursor cursor, ulong code, in DwarfWidths widths, DwarfLimits limits)
    {
        var kind = new DwarfAbbreviation
        {
            Code = code,
            Tag = (int)Math.Min(cursor.Uleb(), ushort.MaxValue),
            HasChildren = cursor.U8() != 0,
            FirstAttribute = _attributes.Count,
            FirstSkip = _skips.Count,
        };
        int run = 0;
        while (true)
        {
            ulong name = cursor.Uleb(), form = cursor.Uleb();
            if (cursor.Failed || !limits.TryStep(1))
            {
                return false;
            }

            if (name == 0 && form == 0)
            {
                break;
            }

            long constant = form == DwarfForm.ImplicitConstant ? cursor.Sleb() : 0;
            _attributes.Add(new DwarfAttributeForm(
                (ushort)Math.Min(name, ushort.MaxValue), (ushort)Math.Min(form, ushort.MaxValue), constant));
            kind.HasCode |= name is DwarfAttribute.LowPc or DwarfAttribute.Ranges;
            int skip = DwarfSkip.Of((int)Math.Min(form, ushort.MaxValue), widths);
            if (skip >= 0)
            {
                run += skip;
                continue;
            }

            AddRun(ref run);
            _skips.Add(skip);
        }

        bool isFixed = _skips.Count == kind.FirstSkip;
        kind.FixedBytes = isFixed ? run : -1;
        if (!isFixed)
        {
            AddRun(ref run);
        }

        kind.AttributeCount = _attributes.Count - kind.FirstAttribute;
        kind.SkipCount = _skips.Count - kind.FirstSkip;
        if (_count == _kinds.Length)
        {
            Array.Resize(ref _kinds, 2 * _count);
        }

        _kinds[_count++] = kind;
        return true;

        void AddRun(ref int bytes)
        {
            if (bytes > 0)
            {
                _skips.Add(bytes);
                bytes = 0;
            }
        }
    }
}
