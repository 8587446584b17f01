using System;
using System.Runtime.InteropServices;
using NativeLeaks;
using NUnit.Framework;

namespace Consumer;

// Each pair: a test that forgets its block, and must fail under the tracker, and its repair, which must pass.
[TestFixture]
public sealed unsafe partial class AllocationTests
{
    [Test]
    public void AllocHGlobal_forgotten()
    {
        using var t = NativeLeakTracker.Start();

        Marshal.AllocHGlobal(321);

        t.AssertNoLeaks();
    }

    [Test]
    public void AllocHGlobal_freed()
    {
        using var t = NativeLeakTracker.Start();

        Marshal.FreeHGlobal(Marshal.AllocHGlobal(321));

        t.AssertNoLeaks();
    }

    [Test]
    public void NativeMemory_Alloc_forgotten()
    {
        using var t = NativeLeakTracker.Start();

        NativeMemory.Alloc(321);

        t.AssertNoLeaks();
    }

    [Test]
    public void NativeMemory_Alloc_freed()
    {
        using var t = NativeLeakTracker.Start();

        NativeMemory.Free(NativeMemory.Alloc(321));

        t.AssertNoLeaks();
    }

    [Test]
    public void StringToCoTaskMemUTF8_forgotten()
    {
        using var t = NativeLeakTracker.Start();

        Marshal.StringToCoTaskMemUTF8("forgotten");

        t.AssertNoLeaks();
    }

    [Test]
    public void StringToCoTaskMemUTF8_freed()
    {
        using var t = NativeLeakTracker.Start();

        Marshal.FreeCoTaskMem(Marshal.StringToCoTaskMemUTF8("freed"));

        t.AssertNoLeaks();
    }

    [Test]
    public void Sqlite_allocation_forgotten()
    {
        using var t = NativeLeakTracker.Start();

        SqliteMalloc(321);

        t.AssertNoLeaks();
    }

    [Test]
    public void Sqlite_allocation_freed()
    {
        using var t = NativeLeakTracker.Start();

        SqliteFree(SqliteMalloc(321));

        t.AssertNoLeaks();
    }

    [LibraryImport("e_sqlite3", EntryPoint = "sqlite3_malloc")]
    private static partial IntPtr SqliteMalloc(int size);

    [LibraryImport("e_sqlite3", EntryPoint = "sqlite3_free")]
    private static partial void SqliteFree(IntPtr block);
}
