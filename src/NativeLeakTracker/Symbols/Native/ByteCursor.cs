using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace NativeLeaks.Symbols.Native;

/// <summary>
/// Reads little-endian values one after another, never beyond an end. What is not there reads as zero and leaves the cursor at
/// its end with <see cref="Failed"/> set, so that loops over hostile bytes need one check a round and cannot run on.
/// </summary>
internal struct ByteCursor(byte[] bytes, int at, int end)
{
    private readonly byte[] _bytes = bytes;
    private readonly int _end = Math.Clamp(end, 0, bytes.Length);
    private int _at = Math.Clamp(at, 0, Math.Clamp(end, 0, bytes.Length));

    public bool Failed { get; private set; } = at < 0 || at > Math.Clamp(end, 0, bytes.Length);

    public readonly int At => _at;

    public readonly bool IsAtEnd => _at >= _end;

    public readonly int Left => _end - _at;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte U8()
    {
        if (_at < _end)
        {
            return _bytes[_at++];
        }

        Fail();
        return 0;
    }

    public ushort U16() => Take(2) is var at and >= 0 ? BinaryPrimitives.ReadUInt16LittleEndian(_bytes.AsSpan(at)) : (ushort)0;

    public uint U24() => U16() | ((uint)U8() << 16);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public uint U32() => Take(4) is var at and >= 0 ? BinaryPrimitives.ReadUInt32LittleEndian(_bytes.AsSpan(at)) : 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong U64() => Take(8) is var at and >= 0 ? BinaryPrimitives.ReadUInt64LittleEndian(_bytes.AsSpan(at)) : 0;

    /// <summary>An unsigned value of 1, 2, 3, 4 or 8 bytes.</summary>
    public ulong Unsigned(int size) => size switch
    {
        1 => U8(),
        2 => U16(),
        3 => U24(),
        4 => U32(),
        8 => U64(),
        _ => FailedValue(),
    };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong Uleb()
    {
        if (_at < _end && _bytes[_at] < 0x80)
        {
            return _bytes[_at++];
        }

        return LongUleb();
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public long Sleb()
    {
        long value = 0;
        int shift = 0;
        while (true)
        {
            byte next = U8();
            if (shift < 64)
            {
                value |= (long)(next & 0x7f) << shift;
                shift += 7;
            }

            if ((next & 0x80) == 0)
            {
                return shift < 64 && (next & 0x40) != 0 ? value | (-1L << shift) : value;
            }
        }
    }

    /// <summary>The bytes of a string up to its zero, which is read too.</summary>
    public ReadOnlySpan<byte> Text()
    {
        ReadOnlySpan<byte> rest = _bytes.AsSpan(_at, _end - _at);
        int length = rest.IndexOf((byte)0);
        if (length < 0)
        {
            Fail();
            return [];
        }

        _at += length + 1;
        return rest[..length];
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Skip(ulong count)
    {
        if (count <= (ulong)(_end - _at))
        {
            _at += (int)count;
        }
        else
        {
            Fail();
        }
    }

    // Padding to any length is allowed, and bits beyond the sixty-fourth are as if they were not there.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private ulong LongUleb()
    {
        ulong value = 0;
        int shift = 0;
        while (true)
        {
            byte next = U8();
            if (shift < 64)
            {
                value |= (ulong)(next & 0x7f) << shift;
                shift += 7;
            }

            if ((next & 0x80) == 0)
            {
                return value;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private int Take(int count)
    {
        int at = _at;
        if (_end - at >= count)
        {
            _at = at + count;
            return at;
        }

        Fail();
        return -1;
    }

    private ulong FailedValue()
    {
        Fail();
        return 0;
    }

    private void Fail()
    {
        _at = _end;
        Failed = true;
    }
}
