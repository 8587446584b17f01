using System.Buffers.Binary;

namespace NativeLeaks.Heap;

/// <summary>Reads single words of frozen memory that mostly lie near one another: a piece at a time. One caller at a time.</summary>
internal sealed class WordWindow(FrozenMemory memory, int bytes = 1 << 16)
{
    private readonly byte[] _bytes = new byte[bytes];
    private ulong _start = 1;
    private int _length;

    /// <summary>False: it is not mapped.</summary>
    public bool TryRead(ulong address, out ulong word)
    {
        if (address < _start || address - _start + sizeof(ulong) > (ulong)_length)
        {
            _start = address;
            _length = memory.Read(address, _bytes);
        }

        int at = (int)(address - _start);
        bool isRead = at + sizeof(ulong) <= _length;
        word = isRead ? BinaryPrimitives.ReadUInt64LittleEndian(_bytes.AsSpan(at)) : 0;
        return isRead;
    }
}
