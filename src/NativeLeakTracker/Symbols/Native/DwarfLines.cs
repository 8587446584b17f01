using System.Runtime.CompilerServices;

namespace NativeLeaks.Symbols.Native;

/// <summary>
/// The source lines of a unit, by address: the line number program run once, its rows kept in arrays. (DWARF 5, 6.2.)
/// </summary>
internal sealed class DwarfLines
{
    private const int MaxPathBytes = 4096;

    private readonly DwarfInfo _info;
    private readonly DwarfUnit _unit;
    private readonly List<DwarfValue> _folders = [];
    private readonly List<(DwarfValue Name, ulong Folder)> _files = [];
    private readonly Dictionary<int, string?> _paths = [];
    private readonly List<(int First, int Count)> _sequences = [];
    private readonly List<AddressRange> _extents = [];
    private AddressMap _map = AddressMap.Of([]);
    private ulong[] _addresses = [];
    private int[] _fileNumbers = [];
    private int[] _lineNumbers = [];
    private int _count;
    private int _version;

    private DwarfLines(DwarfInfo info, DwarfUnit unit)
    {
        _info = info;
        _unit = unit;
    }

    public bool IsDamaged { get; private set; }

    public static DwarfLines Read(DwarfInfo info, DwarfUnit unit)
    {
        var lines = new DwarfLines(info, unit);
        if (unit.LinesAt is { } at)
        {
            lines.IsDamaged = !lines.ReadProgram(at);
            lines._map = AddressMap.Of(lines._extents.ToArray());
        }

        return lines;
    }

    /// <summary>File and line of the code at an address; null when no line is told.</summary>
    public (int File, int Line)? Find(ulong address)
    {
        int sequence = _map.Find(address);
        if (sequence < 0)
        {
            return null;
        }

        (int first, int count) = _sequences[sequence];
        int row = AddressOrder.LastNotAbove(_addresses.AsSpan(first, count), address);
        return row < 0 ? null : (_fileNumbers[first + row], _lineNumbers[first + row]);
    }

    /// <summary>A file with its folders, those that the compiler was given and the one that it ran in.</summary>
    public string? PathOf(int file)
    {
        if (!_paths.TryGetValue(file, out string? path))
        {
            _paths[file] = path = ComposePath(file);
        }

        return path;
    }

    private string? ComposePath(int file)
    {
        // Before the fifth version files and folders were numbered from one on, and folder zero was where the compiler ran.
        int index = _version >= 5 ? file : file - 1;
        if (index < 0 || index >= _files.Count || _info.TextOf(_files[index].Name, _unit, MaxPathBytes) is not { } name)
        {
            return null;
        }

        if (name.StartsWith('/'))
        {
            return name;
        }

        ulong folder = _version >= 5 ? _files[index].Folder : _files[index].Folder - 1;
        string? within = folder < (ulong)_folders.Count ? _info.TextOf(_folders[(int)folder], _unit, MaxPathBytes) : null;
        string? root = within is not null && within.StartsWith('/') || _unit.Folder is not { } compiledIn
            ? null
            : _info.TextOf(compiledIn, _unit, MaxPathBytes);
        return (root, within) switch
        {
            (null, null) => name,
            (null, _) => $"{within}/{name}",
            (_, null) => $"{root}/{name}",
            _ => $"{root}/{within}/{name}",
        };
    }

    private bool ReadProgram(ulong at)
    {
        byte[] section = _info.Sections.Lines;
        if (at >= (ulong)section.Length)
        {
            return false;
        }

        var cursor = new ByteCursor(section, (int)at, section.Length);
        ulong length = cursor.U32();
        byte offsetBytes = 4;
        if (length == uint.MaxValue)
        {
            length = cursor.U64();
            offsetBytes = 8;
        }

        int start = cursor.At;
        bool isWhole = length <= (ulong)(section.Length - start);
        int end = isWhole ? start + (int)length : section.Length;
        if (!_info.Limits.TryStep(end - start))
        {
            return true;
        }

        cursor = new ByteCursor(section, start, end);
        _version = cursor.U16();
        byte addressBytes = 8;
        if (_version >= 5)
        {
            addressBytes = cursor.U8();
            cursor.U8();
        }

        ulong headerBytes = cursor.Unsigned(offsetBytes);
        int headerEnd = (int)Math.Min((ulong)cursor.At + Math.Min(headerBytes, int.MaxValue), (ulong)end);
        var header = new ByteCursor(section, cursor.At, headerEnd);
        var machine = new LineMachine { AddressBytes = addressBytes, InstructionBytes = header.U8() };
        if (_version >= 4)
        {
            header.U8();
        }

        header.U8();
        machine.LineBase = (sbyte)header.U8();
        machine.LineRange = header.U8();
        machine.OpcodeBase = header.U8();
        machine.OpcodeLengthsAt = header.At;
        header.Skip((ulong)Math.Max(machine.OpcodeBase - 1, 0));
        if (header.Failed || _version is < 2 or > 5 || machine.LineRange == 0)
        {
            return false;
        }

        var widths = new DwarfWidths((byte)_version, offsetBytes, addressBytes);
        if (_version >= 5)
        {
            ReadEntries(ref header, widths, (name, _) => _folders.Add(name));
            ReadEntries(ref header, widths, (name, folder) => _files.Add((name, folder)));
        }
        else
        {
            ReadOldEntries(ref header);
        }

        cursor = new ByteCursor(section, headerEnd, end);
        int rows = cursor.Left;
        if (header.Failed || !_info.Limits.TryAddRows(rows))
        {
            return !header.Failed;
        }

        Run(cursor, section, machine);
        return isWhole;
    }

    private void ReadOldEntries(ref ByteCursor header)
    {
        while (Text(ref header) is { } folder)
        {
            _folders.Add(folder);
        }

        while (Text(ref header) is { } file)
        {
            _files.Add((file, header.Uleb()));
            header.Uleb();
            header.Uleb();
        }

        static DwarfValue? Text(ref ByteCursor cursor)
        {
            int at = cursor.At;
            return cursor.Text().IsEmpty ? null : new DwarfValue(DwarfValueKind.TextInLines, (ulong)at);
        }
    }

    private void ReadEntries(ref ByteCursor header, in DwarfWidths widths, Action<DwarfValue, ulong> add)
    {
        const ulong PathType = 1, FolderType = 2;
        int formatCount = header.U8();
        Span<(ulong Type, int Form)> format = stackalloc (ulong, int)[formatCount];
        for (int i = 0; i < formatCount; i++)
        {
            format[i] = (header.Uleb(), (int)Math.Min(header.Uleb(), ushort.MaxValue));
        }

        ulong count = header.Uleb();
        for (ulong i = 0; i < count; i++)
        {
            int before = header.At;
            DwarfValue name = default;
            ulong folder = 0;
            foreach ((ulong type, int form) in format)
            {
                // Strings that stand here stand in this section.
                var value = DwarfValue.Read(ref header, form, 0, widths, 0);
                value = value.Kind == DwarfValueKind.TextInInfo ? value with { Kind = DwarfValueKind.TextInLines } : value;
                (name, folder) = type switch
                {
                    PathType => (value, folder),
                    FolderType => (name, value.Number),
                    _ => (name, folder),
                };
            }

            // Entries of no bytes could be any number.
            if (header.Failed || header.At == before)
            {
                return;
            }

            add(name, folder);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Run(ByteCursor cursor, byte[] section, in LineMachine machine)
    {
        const int
            Copy = 1, AdvancePc = 2, AdvanceLine = 3, SetFile = 4, SetColumn = 5, Negate = 6, BasicBlock = 7, AddConstant = 8,
            FixedAdvance = 9, PrologueEnd = 10, EpilogueBegin = 11, SetIsa = 12;
        const int EndOfSequence = 1, SetAddress = 2, DefineFile = 3;
        ulong address = 0;
        ulong file = 1;
        long line = 1;
        int first = 0;
        bool isSorted = true;
        ulong constant = (ulong)((255 - machine.OpcodeBase) / machine.LineRange) * machine.InstructionBytes;
        while (!cursor.IsAtEnd)
        {
            int opcode = cursor.U8();
            if (opcode >= machine.OpcodeBase)
            {
                int special = opcode - machine.OpcodeBase;
                address += (ulong)(special / machine.LineRange) * machine.InstructionBytes;
                line += machine.LineBase + (special % machine.LineRange);
                isSorted &= AddRow(first, address, file, line);
                continue;
            }

            switch (opcode)
            {
                case 0:
                    ulong length = cursor.Uleb();
                    int start = cursor.At;
                    var extended = new ByteCursor(section, start, start + (int)Math.Min(length, (ulong)cursor.Left));
                    cursor.Skip(length);
                    switch (extended.U8())
                    {
                        case EndOfSequence:
                            EndSequence(first, address, isSorted);
                            (address, file, line, first, isSorted) = (0, 1, 1, _count, true);
                            break;
                        case SetAddress:
                            address = extended.Unsigned(length == 5 ? 4 : machine.AddressBytes);
                            break;
                        case DefineFile:
                            int name = extended.At;
                            extended.Text();
                            _files.Add((new DwarfValue(DwarfValueKind.TextInLines, (ulong)name), extended.Uleb()));
                            break;
                    }

                    break;
                case Copy:
                    isSorted &= AddRow(first, address, file, line);
                    break;
                case AdvancePc:
                    address += cursor.Uleb() * machine.InstructionBytes;
                    break;
                case AdvanceLine:
                    line += cursor.Sleb();
                    break;
                case SetFile:
                    file = cursor.Uleb();
                    break;
                case SetColumn or SetIsa:
                    cursor.Uleb();
                    break;
                case Negate or BasicBlock or PrologueEnd or EpilogueBegin:
                    break;
                case AddConstant:
                    address += constant;
                    break;
                case FixedAdvance:
                    address += cursor.U16();
                    break;
                default:
                    for (int operands = section[machine.OpcodeLengthsAt + opcode - 1]; operands > 0; operands--)
                    {
                        cursor.Uleb();
                    }

                    break;
            }
        }

        // A sequence without an end is none.
        _count = first;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool AddRow(int first, ulong address, ulong file, long line)
    {
        // Of several rows for an address the last one counts.
        int last = _count - 1;
        if (last < first || _addresses[last] != address)
        {
            last = _count++;
            if (last == _addresses.Length)
            {
                Grow();
            }

            _addresses[last] = address;
        }

        _fileNumbers[last] = (int)Math.Min(file, int.MaxValue);
        _lineNumbers[last] = (int)Math.Clamp(line, 0, int.MaxValue);
        return last == first || _addresses[last - 1] <= address;
    }

    private void Grow()
    {
        int size = Math.Max(256, 2 * _addresses.Length);
        Array.Resize(ref _addresses, size);
        Array.Resize(ref _fileNumbers, size);
        Array.Resize(ref _lineNumbers, size);
    }

    private void EndSequence(int first, ulong end, bool isSorted)
    {
        int count = _count - first;
        if (count > 0 && !isSorted)
        {
            Sort(first, count);
        }

        if (count == 0 || _addresses[first] >= end || !_info.Code.Holds(_addresses[first]))
        {
            _count = first;
            return;
        }

        _extents.Add(new AddressRange(_addresses[first], end, _sequences.Count));
        _sequences.Add((first, count));
    }

    private void Sort(int first, int count)
    {
        int[] order = AddressOrder.Of(_addresses.AsSpan(first, count));
        ulong[] addresses = _addresses.AsSpan(first, count).ToArray();
        int[] files = _fileNumbers.AsSpan(first, count).ToArray(), lines = _lineNumbers.AsSpan(first, count).ToArray();
        for (int i = 0; i < count; i++)
        {
            _addresses[first + i] = addresses[order[i]];
            _fileNumbers[first + i] = files[order[i]];
            _lineNumbers[first + i] = lines[order[i]];
        }
    }

    /// <summary>What a program's header says about how to run it.</summary>
    private struct LineMachine
    {
        public byte AddressBytes, InstructionBytes, LineRange, OpcodeBase;
        public sbyte LineBase;
        public int OpcodeLengthsAt;
    }
}
