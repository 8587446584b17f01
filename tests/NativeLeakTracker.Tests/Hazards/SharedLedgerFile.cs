using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using NativeLeaks.Ledger;

namespace NativeLeaks.Tests.Hazards;

/// <summary>
/// The ledger of another process, or of a dead one, read from its file: by the layout alone, with nothing of the library's
/// own readers, which read the process that they are in.
/// </summary>
internal sealed class SharedLedgerFile : IDisposable
{
    private readonly SafeFileHandle _file;

    public SharedLedgerFile(string path)
    {
        _file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        Header = ReadMany<LedgerHeader>(0, 1)[0];
    }

    public LedgerHeader Header { get; }

    public string Allocator => Text(Header.Allocator);

    /// <summary>Blocks that all threads allocated less those that they freed.</summary>
    public long CountedLiveBlocks
    {
        get
        {
            ThreadEntry[] threads = Table<ThreadEntry>(TableId.Threads);
            PendingEntry[] pending = Table<PendingEntry>(TableId.Pending);
            long live = threads.Sum(static thread => (long)thread.AllocatedBlocks - (long)thread.FreedBlocks);
            foreach (ref readonly PendingEntry entry in pending.AsSpan())
            {
                foreach (ref readonly PendingSlot slot in (ReadOnlySpan<PendingSlot>)entry.Slots)
                {
                    live += PendingSlot.Blocks(slot.Allocated) - PendingSlot.Blocks(slot.Freed);
                }
            }

            return live;
        }
    }

    /// <summary>The sizes of the blocks whose live words are in the file.</summary>
    public List<long> LiveSizes()
    {
        List<long> sizes = [];
        ulong sizeWordAt = 0;
        foreach (ChunkEntry chunk in Table<ChunkEntry>(TableId.Chunks).OrderBy(static c => (c.HeapShift, c.HeapStart)))
        {
            if (chunk.Words == 0)
            {
                continue;
            }

            ulong[] words = ReadMany<ulong>((long)chunk.FileOffset, chunk.WordCount);
            for (int i = 0; i < words.Length; i++)
            {
                ulong at = chunk.HeapStart + ((ulong)i << (int)chunk.HeapShift);
                var word = new LiveWord(words[i]);
                if (words[i] == 0 || at == sizeWordAt || word.Context < LiveWord.RootContext)
                {
                    continue;
                }

                bool isLarge = word.Size == LiveWord.SizeEscape;
                sizeWordAt = isLarge ? at + (1UL << (int)chunk.HeapShift) : 0;
                sizes.Add(!isLarge ? word.Size : i + 1 < words.Length ? (long)words[i + 1] : -1);
            }
        }

        return sizes;
    }

    public void Dispose() => _file.Dispose();

    private string Text(uint offset)
    {
        byte[] strings = Table<byte>(TableId.Strings);
        int length = Array.IndexOf(strings, (byte)0, (int)offset) - (int)offset;
        return Encoding.UTF8.GetString(strings, (int)offset, length);
    }

    private T[] Table<T>(TableId id)
        where T : unmanaged
    {
        TableEntry table = Header.Tables[(int)id];
        Assert.That(table.EntryBytes, Is.EqualTo(Unsafe.SizeOf<T>()), id.ToString());
        return ReadMany<T>((long)table.OffsetBytes, (int)table.Count);
    }

    private T[] ReadMany<T>(long offset, int count)
        where T : unmanaged
    {
        var entries = new T[count];
        Span<byte> rest = MemoryMarshal.AsBytes(entries.AsSpan());
        while (!rest.IsEmpty)
        {
            int read = RandomAccess.Read(_file, rest, offset);
            Assert.That(read, Is.Positive, $"the file ends at {offset}");
            rest = rest[read..];
            offset += read;
        }

        return entries;
    }
}
