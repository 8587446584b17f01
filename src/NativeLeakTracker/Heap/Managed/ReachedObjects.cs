using System.Runtime.InteropServices;

namespace NativeLeaks.Heap.Managed;

/// <summary>
/// Objects in the order in which they were reached, each with the one that led to it: the queue of a breadth-first search, and afterwards
/// the ways back. In memory of its own: it grows to 12 bytes for each live object.
/// </summary>
internal sealed unsafe class ReachedObjects : IDisposable
{
    /// <summary>As a parent: a dependent handle, whose first object lives.</summary>
    public const int Dependent = int.MinValue;

    private ulong* _objects;
    private int* _parents;
    private int _capacity;

    public int Count { get; private set; }

    public ulong ObjectAt(int entry) => _objects[entry];

    /// <summary>The entry of the object that led here; of a root, the complement of its number; or <see cref="Dependent"/>.</summary>
    public int ParentOf(int entry) => _parents[entry];

    public void Add(ulong address, int parent)
    {
        if (Count == _capacity)
        {
            _capacity = Math.Max(_capacity * 2, 1 << 16);
            _objects = (ulong*)NativeMemory.Realloc(_objects, (nuint)_capacity * sizeof(ulong));
            _parents = (int*)NativeMemory.Realloc(_parents, (nuint)_capacity * sizeof(int));
        }

        _objects[Count] = address;
        _parents[Count++] = parent;
    }

    /// <summary>The entry of an object; -1 when it was not reached. Looks at all.</summary>
    public int EntryOf(ulong address) => new ReadOnlySpan<ulong>(_objects, Count).IndexOf(address);

    public void Dispose()
    {
        NativeMemory.Free(_objects);
        NativeMemory.Free(_parents);
        _objects = null;
        _parents = null;
        Count = _capacity = 0;
    }
}
