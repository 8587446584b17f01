using System.Buffers.Binary;

namespace SqliteInterop;

/// <summary>Draws small pictures: a gradient as a 24-bit BMP file. The same number always gives the same bytes.</summary>
internal static class Picture
{
    private const int HeaderBytes = 54;

    internal static byte[] Draw(int number)
    {
        int width = 8 + (number * 7 % 41);
        int height = 8 + (number * 5 % 23);
        int rowBytes = ((width * 3) + 3) & ~3; // rows of a BMP begin at multiples of 4
        byte[] file = new byte[HeaderBytes + (rowBytes * height)];

        WriteHeader(file, width, height);
        for (int y = 0; y < height; y++)
        {
            Span<byte> row = file.AsSpan(HeaderBytes + (y * rowBytes), rowBytes);
            for (int x = 0; x < width; x++)
            {
                row[x * 3] = (byte)(number * 37);
                row[(x * 3) + 1] = (byte)(255 * y / height);
                row[(x * 3) + 2] = (byte)(255 * x / width);
            }
        }

        return file;
    }

    private static void WriteHeader(Span<byte> file, int width, int height)
    {
        "BM"u8.CopyTo(file);
        BinaryPrimitives.WriteInt32LittleEndian(file[2..], file.Length);
        BinaryPrimitives.WriteInt32LittleEndian(file[10..], HeaderBytes);
        BinaryPrimitives.WriteInt32LittleEndian(file[14..], 40); // size of the information header
        BinaryPrimitives.WriteInt32LittleEndian(file[18..], width);
        BinaryPrimitives.WriteInt32LittleEndian(file[22..], height);
        BinaryPrimitives.WriteInt16LittleEndian(file[26..], 1); // planes
        BinaryPrimitives.WriteInt16LittleEndian(file[28..], 24); // bits a pixel
        BinaryPrimitives.WriteInt32LittleEndian(file[34..], file.Length - HeaderBytes);
    }
}
