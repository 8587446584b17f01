using System.Runtime.CompilerServices;

namespace NativeLeaks.Symbols.Native;

/// <summary>The checksum by which .gnu_debuglink knows its file: the one of zip, four bytes a step.</summary>
internal static class Crc32
{
    private static readonly uint[] s_tables = MakeTables();

    /// <summary>The checksum of more bytes; begin with 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static uint Append(uint crc, ReadOnlySpan<byte> bytes)
    {
        ReadOnlySpan<uint> tables = s_tables;
        crc = ~crc;
        while (bytes.Length >= 4)
        {
            crc ^= System.Buffers.Binary.BinaryPrimitives.ReadUInt32LittleEndian(bytes);
            crc = tables[768 + (int)(crc & 0xff)] ^ tables[512 + (int)((crc >> 8) & 0xff)] ^
                tables[256 + (int)((crc >> 16) & 0xff)] ^ tables[(int)(crc >> 24)];
            bytes = bytes[4..];
        }

        foreach (byte value in bytes)
        {
            crc = tables[(byte)(crc ^ value)] ^ (crc >> 8);
        }

        return ~crc;
    }

    private static uint[] MakeTables()
    {
        const uint Polynomial = 0xedb88320;
        uint[] tables = new uint[4 * 256];
        for (uint i = 0; i < 256; i++)
        {
            uint crc = i;
            for (int bit = 0; bit < 8; bit++)
            {
                crc = (crc & 1) != 0 ? (crc >> 1) ^ Polynomial : crc >> 1;
            }

            tables[i] = crc;
        }

        for (int i = 256; i < tables.Length; i++)
        {
            tables[i] = (tables[i - 256] >> 8) ^ tables[(byte)tables[i - 256]];
        }

        return tables;
    }
}
