using System.Runtime.CompilerServices;

namespace NativeLeaks.Symbols.Managed;

/// <summary>Where in a method's IL a native instruction comes from.</summary>
/// <param name="Offset">IL offset; -1 when unknown.</param>
/// <param name="End">First IL offset that belongs to a later statement; <see cref="int.MaxValue"/> when it is the last.</param>
internal readonly record struct IlRange(int Offset, int End)
{
    public static IlRange Unknown { get; } = new(-1, int.MaxValue);

    /// <summary>Of code that stands for no IL: the method's first line, as in the runtime's own stack traces, and no statement.</summary>
    public static IlRange Beginning { get; } = new(0, 0);
}

/// <summary>
/// The map from native offsets to IL offsets of one body of code, as the JIT and the precompiler leave it in .NET 10: two
/// bits of kind, the distance to the previous native offset, and the IL offset plus three, bit by bit behind one another
/// (dotnet/runtime: debuginfostore.cpp; docs/design/datacontracts/DebugInfo.md, the first of its versions). It belongs to the
/// body and not to the method, so it is right for every tier.
/// </summary>
internal static class IlMap
{
    // Offsets below zero are marks: code of no IL, of the prolog, of the epilog.
    private const int IlBias = 3;
    private const int KindBits = 2;
    private const int CallInstruction = 1;

    /// <summary>The IL of the instruction at a native offset. Damaged maps give <see cref="IlRange.Unknown"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static IlRange Find(ReadOnlySpan<byte> map, uint nativeOffset)
    {
        var numbers = new NibbleReader(map);
        if (!numbers.TryRead(out uint count) || !numbers.TryRead(out uint nativeBits) || !numbers.TryRead(out uint ilBits) ||
            nativeBits > 31 || ilBits > 31)
        {
            return IlRange.Unknown;
        }

        var bits = new BitReader(map[numbers.BytesRead..]);
        uint native = 0;
        int found = 0;
        bool isFound = false;
        for (uint i = 0; i < count; i++)
        {
            if (!bits.TryRead(KindBits, out uint kind) || !bits.TryRead((int)nativeBits + 1, out uint delta) ||
                !bits.TryRead((int)ilBits + 1, out uint biased))
            {
                return IlRange.Unknown;
            }

            native += delta;
            if (native > nativeOffset)
            {
                break;
            }

            // Of a call instruction only the place after it is told, for debuggers that want its result.
            if ((kind & CallInstruction) == 0)
            {
                found = (int)biased - IlBias;
                isFound = true;
            }
        }

        return !isFound ? IlRange.Unknown : found < 0 ? IlRange.Beginning : new IlRange(found, EndOf(map, found));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int EndOf(ReadOnlySpan<byte> map, int start)
    {
        var numbers = new NibbleReader(map);
        _ = numbers.TryRead(out uint count);
        _ = numbers.TryRead(out uint nativeBits);
        _ = numbers.TryRead(out uint ilBits);
        var bits = new BitReader(map[numbers.BytesRead..]);
        int end = int.MaxValue;
        for (uint i = 0; i < count; i++)
        {
            if (!bits.TryRead(KindBits, out uint kind) || !bits.TryRead((int)nativeBits + 1, out _) ||
                !bits.TryRead((int)ilBits + 1, out uint biased))
            {
                break;
            }

            int il = (int)biased - IlBias;
            if ((kind & CallInstruction) == 0 && il > start && il < end)
            {
                end = il;
            }
        }

        return end;
    }

    /// <summary>Numbers below 2^64 bits wide at most, lowest bit first.</summary>
    private ref struct BitReader(ReadOnlySpan<byte> bytes)
    {
        private readonly ReadOnlySpan<byte> _bytes = bytes;
        private ulong _bits;
        private int _held;
        private int _next;

        public bool TryRead(int width, out uint value)
        {
            while (_held < width)
            {
                if (_next >= _bytes.Length)
                {
                    value = 0;
                    return false;
                }

                _bits |= (ulong)_bytes[_next++] << _held;
                _held += 8;
            }

            value = (uint)(_bits & ((1UL << width) - 1));
            _bits >>= width;
            _held -= width;
            return true;
        }
    }
}

/// <summary>
/// Numbers in steps of four bits: three of the number, the most significant first, and one that says whether another step
/// follows (dotnet/runtime: nibblestream.h).
/// </summary>
internal ref struct NibbleReader(ReadOnlySpan<byte> bytes)
{
    private readonly ReadOnlySpan<byte> _bytes = bytes;
    private int _step;

    /// <summary>Whole bytes that were begun.</summary>
    public readonly int BytesRead => (_step + 1) / 2;

    public bool TryRead(out uint value)
    {
        const int MaxSteps = 11;
        value = 0;
        for (int i = 0; i < MaxSteps && _step / 2 < _bytes.Length; i++)
        {
            int nibble = (_bytes[_step / 2] >> (_step % 2 * 4)) & 0xf;
            _step++;
            value = (value << 3) | (uint)(nibble & 7);
            if ((nibble & 8) == 0)
            {
                return true;
            }
        }

        return false;
    }
}
