namespace NativeLeaks.Symbols.Native;

/// <summary>
/// Where functions begin and end, told by the unwind data (.eh_frame, through the search table of .eh_frame_hdr), which also
/// stripped libraries have. (Linux Standard Base, "Exception Frames".)
/// </summary>
internal sealed class UnwindExtents
{
    private const int TableAt = 12, EntryBytes = 8;
    private const byte PcRelative = 0x10;

    private readonly byte[] _header;
    private readonly byte[] _frames;
    private readonly ulong _headerAddress;
    private readonly ulong _framesAddress;
    private readonly int _count;

    private UnwindExtents(byte[] header, ulong headerAddress, byte[] frames, ulong framesAddress)
    {
        _header = header;
        _headerAddress = headerAddress;
        _frames = frames;
        _framesAddress = framesAddress;

        // The only form that linkers write: a count of four bytes, and pairs relative to the header.
        if (header.Length >= TableAt && header[0] == 1 && header[2] == 0x03 && header[3] == 0x3b)
        {
            var cursor = new ByteCursor(header, 8, header.Length);
            _count = (int)Math.Min(cursor.U32(), (uint)(header.Length - TableAt) / EntryBytes);
        }
    }

    public static UnwindExtents Read(ElfFile file)
    {
        if (file.Section(".eh_frame_hdr") is not { } header || file.Section(".eh_frame") is not { } frames)
        {
            return new UnwindExtents([], 0, [], 0);
        }

        return new UnwindExtents(file.Read(header), header.Address, file.Read(frames), frames.Address);
    }

    public FunctionExtent? Find(ulong address)
    {
        int low = 0, high = _count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (Entry(middle).Start <= address)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        if (low == 0)
        {
            return null;
        }

        (ulong start, ulong description) = Entry(low - 1);
        return SizeOf(description, start) is { } size && address - start < size ? new FunctionExtent(null, start, size) : null;
    }

    private (ulong Start, ulong Description) Entry(int index)
    {
        var cursor = new ByteCursor(_header, TableAt + (index * EntryBytes), _header.Length);
        return (_headerAddress + (ulong)(long)(int)cursor.U32(), _headerAddress + (ulong)(long)(int)cursor.U32());
    }

    private ulong? SizeOf(ulong description, ulong start)
    {
        ulong offset = description - _framesAddress;
        if (offset >= (ulong)_frames.Length)
        {
            return null;
        }

        var cursor = new ByteCursor(_frames, (int)offset, _frames.Length);
        if (cursor.U32() == uint.MaxValue)
        {
            cursor.Skip(8);
        }

        int at = cursor.At;
        long common = at - (long)cursor.U32();
        if (cursor.Failed || common < 0 || common >= at || EncodingOf((int)common) is not { } encoding)
        {
            return null;
        }

        ulong place = _framesAddress + (ulong)cursor.At;
        ulong begin = Value(ref cursor, encoding);
        begin += (encoding & 0x70) == PcRelative ? place : 0;
        ulong size = Value(ref cursor, (byte)(encoding & 0x07));
        return !cursor.Failed && begin == start && size > 0 && start + size > start ? size : null;
    }

    /// <summary>How the descriptions that share this part encode addresses.</summary>
    private byte? EncodingOf(int common)
    {
        var cursor = new ByteCursor(_frames, common, _frames.Length);
        if (cursor.U32() == uint.MaxValue)
        {
            cursor.Skip(8);
        }

        byte version = cursor.U32() == 0 ? cursor.U8() : (byte)0;
        ReadOnlySpan<byte> augmentation = cursor.Text();
        if (cursor.Failed || version is not (1 or 3))
        {
            return null;
        }

        if (augmentation.IsEmpty)
        {
            return 0;
        }

        cursor.Uleb();
        cursor.Sleb();
        _ = version == 1 ? cursor.U8() : cursor.Uleb();
        if (augmentation[0] != 'z')
        {
            return null;
        }

        cursor.Uleb();
        foreach (byte letter in augmentation[1..])
        {
            switch (letter)
            {
                case (byte)'R':
                    byte encoding = cursor.U8();
                    return cursor.Failed ? null : encoding;
                case (byte)'L':
                    cursor.U8();
                    break;
                case (byte)'P':
                    Value(ref cursor, cursor.U8());
                    break;
                case (byte)'S' or (byte)'B':
                    break;
                default:
                    return null;
            }
        }

        return 0;
    }

    private static ulong Value(ref ByteCursor cursor, byte encoding) => (encoding & 0x0f) switch
    {
        0x00 or 0x04 or 0x0c => cursor.U64(),
        0x01 => cursor.Uleb(),
        0x02 => cursor.U16(),
        0x03 => cursor.U32(),
        0x09 => (ulong)cursor.Sleb(),
        0x0a => (ulong)(long)(short)cursor.U16(),
        0x0b => (ulong)(long)(int)cursor.U32(),
        _ => cursor.Unsigned(0),
    };
}
