using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security;
using System.Text.RegularExpressions;
using NativeLeaks.Capture;
using static NativeLeaks.Capture.AllocationFamily;
using static NativeLeaks.Tests.SignatureParity;
using Tracked = NativeLeaks.TrackedMarshal;

namespace NativeLeaks.Tests;

[TestFixture]
[NonParallelizable]
internal sealed partial class TrackedMarshalTests
{
    private const string Text = "Grüße, 世界";

    private static IEnumerable<TestCaseData> Allocations =>
    [
        Case("AllocHGlobal(Int32)", () => Tracked.AllocHGlobal(100), Tracked.FreeHGlobal, HGlobal, 100),
        Case("AllocHGlobal(IntPtr)", () => Tracked.AllocHGlobal((nint)100), Tracked.FreeHGlobal, HGlobal, 100),
        Case(
            "ReAllocHGlobal(IntPtr, IntPtr)",
            () => Tracked.ReAllocHGlobal(Tracked.AllocHGlobal(8), 100),
            Tracked.FreeHGlobal,
            HGlobal,
            100),
        Case("AllocCoTaskMem(Int32)", () => Tracked.AllocCoTaskMem(100), Tracked.FreeCoTaskMem, CoTaskMem, 100),
        Case(
            "ReAllocCoTaskMem(IntPtr, Int32)",
            () => Tracked.ReAllocCoTaskMem(0, 100),
            Tracked.FreeCoTaskMem,
            CoTaskMem,
            100),
        Case(
            "StringToHGlobalAnsi(String)",
            () => Tracked.StringToHGlobalAnsi(Text),
            Tracked.ZeroFreeGlobalAllocAnsi,
            HGlobal),
        Case("StringToHGlobalAuto(String)", () => Tracked.StringToHGlobalAuto(Text), Tracked.FreeHGlobal, HGlobal),
        Case(
            "StringToHGlobalUni(String)",
            () => Tracked.StringToHGlobalUni(Text),
            Tracked.ZeroFreeGlobalAllocUnicode,
            HGlobal,
            20),
        Case(
            "StringToCoTaskMemAnsi(String)",
            () => Tracked.StringToCoTaskMemAnsi(Text),
            Tracked.ZeroFreeCoTaskMemAnsi,
            CoTaskMem),
        Case(
            "StringToCoTaskMemAuto(String)",
            () => Tracked.StringToCoTaskMemAuto(Text),
            Tracked.FreeCoTaskMem,
            CoTaskMem),
        Case(
            "StringToCoTaskMemUni(String)",
            () => Tracked.StringToCoTaskMemUni(Text),
            Tracked.ZeroFreeCoTaskMemUnicode,
            CoTaskMem,
            20),
        Case(
            "StringToCoTaskMemUTF8(String)",
            () => Tracked.StringToCoTaskMemUTF8(Text),
            Tracked.ZeroFreeCoTaskMemUTF8,
            CoTaskMem,
            31),
        Case("StringToBSTR(String)", () => Tracked.StringToBSTR(Text), Tracked.FreeBSTR, Bstr, 20),
        Case(
            "SecureStringToBSTR(SecureString)",
            () => Tracked.SecureStringToBSTR(Secret()),
            Tracked.ZeroFreeBSTR,
            Bstr),
        Case(
            "SecureStringToCoTaskMemAnsi(SecureString)",
            () => Tracked.SecureStringToCoTaskMemAnsi(Secret()),
            Tracked.ZeroFreeCoTaskMemAnsi,
            CoTaskMem),
        Case(
            "SecureStringToCoTaskMemUnicode(SecureString)",
            () => Tracked.SecureStringToCoTaskMemUnicode(Secret()),
            Tracked.ZeroFreeCoTaskMemUnicode,
            CoTaskMem),
        Case(
            "SecureStringToGlobalAllocAnsi(SecureString)",
            () => Tracked.SecureStringToGlobalAllocAnsi(Secret()),
            Tracked.ZeroFreeGlobalAllocAnsi,
            HGlobal),
        Case(
            "SecureStringToGlobalAllocUnicode(SecureString)",
            () => Tracked.SecureStringToGlobalAllocUnicode(Secret()),
            Tracked.ZeroFreeGlobalAllocUnicode,
            HGlobal),
    ];

    [Test]
    public void Every_member_of_Marshal_that_is_not_obsolete_nor_for_Windows_only_has_its_twin()
    {
        Assert.That(Signatures(typeof(Tracked)), Is.EquivalentTo(Signatures(typeof(Marshal))));
    }

    [Test]
    public void Every_allocation_of_Marshal_is_among_the_cases_here()
    {
        IEnumerable<string> apis = typeof(Marshal).GetMethods()
            .Where(method => Allocates().IsMatch(method.Name))
            .Select(Api);
        Assert.That(Allocations.Select(test => ((WrapperCase)test.Arguments[0]!).Api), Is.EquivalentTo(apis));
    }

    [TestCaseSource(nameof(Allocations))]
    public void Each_allocation_is_recorded_until_it_is_freed(WrapperCase call)
    {
        using WrappersRecording recording = new();

        nint address = call.Allocate();

        WrapperBlock block = recording.Outstanding.Single();
        Assert.That((block.Address, block.Api, block.Family), Is.EqualTo((address, call.Api, call.Family)));
        if (call.SizeBytes is not null)
        {
            Assert.That(block.SizeBytes, Is.EqualTo(call.SizeBytes));
        }

        call.Free(address);
        Assert.That(recording.Outstanding, Is.Empty);
    }

    [TestCaseSource(nameof(Allocations))]
    [Platform("Linux")]
    public void The_recorded_size_is_what_malloc_was_asked_for(WrapperCase call)
    {
        using WrappersRecording recording = new();

        nint address = call.Allocate();

        // A BSTR begins 8 bytes into its block; malloc rounds up to 16 and may leave a remainder too small to split.
        int before = call.Family == Bstr ? 8 : 0;
        if (recording.Outstanding.Single().SizeBytes is { } recorded)
        {
            Assert.That((long)UsableSize(address - before) - before, Is.InRange(recorded, recorded + 32));
        }

        call.Free(address);
    }

    [TestCaseSource(nameof(Allocations))]
    public void Without_a_scope_each_allocation_is_the_plain_call(WrapperCase call)
    {
        long before = WrapperLedger.Shared.Sequence;

        call.Free(call.Allocate());

        Assert.That(WrapperLedger.Shared.Sequence, Is.EqualTo(before));
    }

    [Test]
    public void Strings_arrive_as_the_real_calls_write_them()
    {
        Assert.Multiple(() =>
        {
            AssertText(Tracked.StringToHGlobalAnsi(Text), Tracked.PtrToStringAnsi, Tracked.FreeHGlobal);
            AssertText(Tracked.StringToHGlobalAuto(Text), Tracked.PtrToStringAuto, Tracked.FreeHGlobal);
            AssertText(Tracked.StringToHGlobalUni(Text), Tracked.PtrToStringUni, Tracked.FreeHGlobal);
            AssertText(Tracked.StringToCoTaskMemAnsi(Text), Tracked.PtrToStringAnsi, Tracked.FreeCoTaskMem);
            AssertText(Tracked.StringToCoTaskMemAuto(Text), Tracked.PtrToStringAuto, Tracked.FreeCoTaskMem);
            AssertText(Tracked.StringToCoTaskMemUni(Text), Tracked.PtrToStringUni, Tracked.FreeCoTaskMem);
            AssertText(Tracked.StringToCoTaskMemUTF8(Text), Tracked.PtrToStringUTF8, Tracked.FreeCoTaskMem);
            AssertText(Tracked.StringToBSTR(Text), Tracked.PtrToStringBSTR, Tracked.FreeBSTR);
            AssertText(Tracked.SecureStringToBSTR(Secret()), Tracked.PtrToStringBSTR, Tracked.ZeroFreeBSTR);
        });

        static void AssertText(nint address, Func<nint, string?> read, Action<nint> free)
        {
            Assert.That(read(address), Is.EqualTo(Text));
            free(address);
        }
    }

    [Test]
    public void A_null_string_is_no_block_and_freeing_null_does_nothing()
    {
        using WrappersRecording recording = new();
        long unknown = WrapperLedger.Shared.UnknownFrees;
        Func<string?, nint>[] converters =
        [
            Tracked.StringToHGlobalAnsi, Tracked.StringToHGlobalAuto, Tracked.StringToHGlobalUni,
            Tracked.StringToCoTaskMemAnsi, Tracked.StringToCoTaskMemAuto, Tracked.StringToCoTaskMemUni,
            Tracked.StringToCoTaskMemUTF8, Tracked.StringToBSTR,
        ];
        Action<nint>[] frees =
        [
            Tracked.FreeHGlobal, Tracked.FreeCoTaskMem, Tracked.FreeBSTR, Tracked.ZeroFreeBSTR,
            Tracked.ZeroFreeCoTaskMemAnsi, Tracked.ZeroFreeCoTaskMemUnicode, Tracked.ZeroFreeCoTaskMemUTF8,
            Tracked.ZeroFreeGlobalAllocAnsi, Tracked.ZeroFreeGlobalAllocUnicode,
        ];

        Assert.That(converters.Select(convert => convert(null)), Is.All.EqualTo((nint)0));
        Array.ForEach(frees, free => free(0));

        Assert.That(recording.Outstanding, Is.Empty);
        Assert.That(WrapperLedger.Shared.UnknownFrees, Is.EqualTo(unknown));
    }

    [Test]
    public void ReAllocCoTaskMem_to_zero_bytes_frees_and_returns_null()
    {
        using WrappersRecording recording = new();

        nint result = Tracked.ReAllocCoTaskMem(Tracked.AllocCoTaskMem(16), 0);

        Assert.That(result, Is.EqualTo((nint)0));
        Assert.That(recording.Outstanding, Is.Empty);
    }

    [Test]
    public void Zero_bytes_are_a_block_that_must_be_freed()
    {
        using WrappersRecording recording = new();

        nint global = Tracked.ReAllocHGlobal(Tracked.AllocHGlobal(0), 0);
        nint task = Tracked.AllocCoTaskMem(0);
        nint fromNull = Tracked.ReAllocCoTaskMem(0, 0);

        Assert.That(recording.Outstanding.Select(block => block.Address), Is.EqualTo(new[] { global, task, fromNull }));
        Assert.That(recording.Outstanding.Select(block => block.SizeBytes), Is.All.Zero);

        Tracked.FreeHGlobal(global);
        Tracked.FreeCoTaskMem(task);
        Tracked.FreeCoTaskMem(fromNull);
        Assert.That(recording.Outstanding, Is.Empty);
    }

    [Test]
    public void A_failing_call_throws_what_the_real_one_throws_and_keeps_the_record()
    {
        using WrappersRecording recording = new();
        nint block = Tracked.AllocHGlobal(16);
        IReadOnlyList<WrapperBlock> before = recording.Outstanding;
        SecureString disposed = Secret();
        disposed.Dispose();

        AssertSameFailure(() => Marshal.AllocHGlobal(-1), () => Tracked.AllocHGlobal(-1));
        AssertSameFailure(() => Marshal.AllocHGlobal((nint)(-1)), () => Tracked.AllocHGlobal((nint)(-1)));
        AssertSameFailure(() => Marshal.ReAllocHGlobal(block, -1), () => Tracked.ReAllocHGlobal(block, -1));
        AssertSameFailure(() => Marshal.SecureStringToBSTR(null!), () => Tracked.SecureStringToBSTR(null!));
        AssertSameFailure(
            () => Marshal.SecureStringToGlobalAllocAnsi(disposed),
            () => Tracked.SecureStringToGlobalAllocAnsi(disposed));
        AssertSameFailure(() => StoreReal(null!, block, false), () => StoreTracked(null!, block, false));
        AssertSameFailure(() => StoreReal(new Person(), 0, false), () => StoreTracked(new Person(), 0, false));
        AssertSameFailure(() => StoreReal("no layout", block, true), () => StoreTracked("no layout", block, true));
        AssertSameFailure(
            () => Destroy(Marshal.DestroyStructure<Person>, 0),
            () => Destroy(Tracked.DestroyStructure<Person>, 0));
        AssertSameFailure(
            () => Destroy(at => Marshal.DestroyStructure(at, null!), block),
            () => Destroy(at => Tracked.DestroyStructure(at, null!), block));
        AssertSameFailure(
            () => Destroy(Marshal.DestroyStructure<string>, block),
            () => Destroy(Tracked.DestroyStructure<string>, block));

        Assert.That(recording.Outstanding, Is.EqualTo(before));
        Tracked.FreeHGlobal(block);

        static nint StoreReal(object structure, nint at, bool deleteOld)
        {
            Marshal.StructureToPtr(structure, at, deleteOld);
            return 0;
        }

        static nint StoreTracked(object structure, nint at, bool deleteOld)
        {
            Tracked.StructureToPtr(structure, at, deleteOld);
            return 0;
        }

        static nint Destroy(Action<nint> destroy, nint at)
        {
            destroy(at);
            return 0;
        }
    }

    [Test]
    public void The_strings_of_a_structure_are_blocks_until_DestroyStructure()
    {
        using WrappersRecording recording = new();
        nint at = Tracked.AllocHGlobal(Tracked.SizeOf<Person>());

        Tracked.StructureToPtr(SomePerson(), at, fDeleteOld: false);

        WrapperBlock[] strings = [.. recording.Outstanding.Skip(1)];
        Assert.That(
            strings.Select(block => block.Api),
            Is.All.EqualTo("Marshal.StructureToPtr<T>(T, IntPtr, Boolean)"));
        Assert.That(
            strings.Select(block => (Read(block), block.Family)),
            Is.EquivalentTo(new[]
            {
                ("private in the base", CoTaskMem),
                ("name", CoTaskMem),
                ("bstr", Bstr),
                ("first", CoTaskMem),
                ("second", CoTaskMem),
                ("home", CoTaskMem),
                ("work 1", CoTaskMem),
                ("work 2", CoTaskMem),
            }));

        Tracked.DestroyStructure<Person>(at);
        Assert.That(recording.Outstanding.Select(block => block.Address), Is.EqualTo(new[] { at }));
        Tracked.FreeHGlobal(at);

        static string? Read(WrapperBlock block) =>
            block.Family == Bstr ? Marshal.PtrToStringBSTR(block.Address) : Marshal.PtrToStringUTF8(block.Address);
    }

    [Test]
    public void StructureToPtr_over_an_old_structure_leaks_its_strings_unless_told_to_delete_them()
    {
        using WrappersRecording recording = new();
        nint at = Tracked.AllocHGlobal(Tracked.SizeOf<Address>());
        object address = new Address { Street = "street" };

        Tracked.StructureToPtr(address, at, fDeleteOld: false);
        Tracked.StructureToPtr(address, at, fDeleteOld: true);
        Assert.That(recording.Outstanding, Has.Count.EqualTo(2));

        nint leaked = Tracked.ReadIntPtr(at, sizeof(long));
        Tracked.StructureToPtr(address, at, fDeleteOld: false);
        Assert.That(recording.Outstanding, Has.Count.EqualTo(3));

        Tracked.FreeCoTaskMem(leaked);
        Tracked.DestroyStructure(at, address.GetType());
        Tracked.FreeHGlobal(at);
        Assert.That(recording.Outstanding, Is.Empty);
    }

    [Test]
    public void A_structure_that_fails_after_the_old_strings_were_freed_leaves_no_record_of_them()
    {
        using WrappersRecording recording = new();
        nint at = Tracked.AllocHGlobal(Tracked.SizeOf<Person>());
        Tracked.StructureToPtr(SomePerson(), at, fDeleteOld: false);
        Person wrongLength = SomePerson();
        wrongLength.Nicknames = ["only one"];

        Assert.That(() => Tracked.StructureToPtr(wrongLength, at, fDeleteOld: true), Throws.ArgumentException);

        Assert.That(recording.Outstanding.Select(block => block.Address), Is.EqualTo(new[] { at }));
        Tracked.FreeHGlobal(at);
    }

    [Test]
    public void The_stack_names_the_method_that_called_the_wrapper()
    {
        using WrappersRecording recording = new();

        nint address = AllocateHere();

        StackTrace stack = recording.Outstanding.Single().Stack;
        Assert.That(stack.GetFrame(0)?.GetMethod()?.Name, Is.EqualTo(nameof(AllocateHere)));
        Tracked.FreeCoTaskMem(address);
    }

    [Test]
    public void The_last_errors_pass_through_the_forwards_unchanged()
    {
        Tracked.SetLastPInvokeError(17);
        Tracked.SetLastSystemError(18);

        Assert.That(Tracked.GetLastSystemError(), Is.EqualTo(18));
        Assert.That(Tracked.GetLastPInvokeError(), Is.EqualTo(17));
        Assert.That(Tracked.GetLastWin32Error(), Is.EqualTo(17));
    }

    [Test]
    public void Recording_does_not_disturb_the_last_errors()
    {
        using WrappersRecording recording = new();
        Marshal.SetLastPInvokeError(17);

        Tracked.FreeHGlobal(Tracked.ReAllocHGlobal(Tracked.AllocHGlobal(8), 16));

        Assert.That(Marshal.GetLastPInvokeError(), Is.EqualTo(17));
    }

    [GeneratedRegex("^(Alloc|ReAlloc|StringTo|SecureStringTo)")]
    private static partial Regex Allocates();

    [DllImport("libc", EntryPoint = "malloc_usable_size")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern nuint UsableSize(nint block);

    private static TestCaseData Case(
        string call,
        Func<nint> allocate,
        Action<nint> free,
        AllocationFamily family,
        long? sizeBytes = null) =>
        WrapperCase.Named(new($"Marshal.{call}", allocate, free, family, sizeBytes));

    private static unsafe void AssertSameFailure(Func<nint> real, Func<nint> tracked) =>
        SignatureParity.AssertSameFailure(() => (void*)real(), () => (void*)tracked());

    private static SecureString Secret()
    {
        SecureString secret = new();
        foreach (char c in Text)
        {
            secret.AppendChar(c);
        }

        return secret;
    }

    private static Person SomePerson() => new()
    {
        Name = "name",
        Basic = "bstr",
        Inline = "inline",
        Nicknames = ["first", "second"],
        Home = new() { Street = "home" },
        Work = [new() { Street = "work 1" }, new() { Street = "work 2" }],
    };

    // Not optimized: a wrapper called last may be jumped to, and then this method is on no stack.
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.NoOptimization)]
    private static nint AllocateHere()
    {
        nint address = Tracked.StringToCoTaskMemUTF8(Text);
        return address;
    }

    [StructLayout(LayoutKind.Sequential)]
    private class Being
    {
        private readonly string _kind = "private in the base";

        public override string ToString() => _kind;
    }

    [StructLayout(LayoutKind.Sequential)]
    private sealed class Person : Being
    {
        public byte Age;
        public string? Name;
        public string? Missing;
        [MarshalAs(UnmanagedType.BStr)]
        public string? Basic;
        [MarshalAs(UnmanagedType.ByValTStr, SizeConst = 16)]
        public string? Inline;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 2)]
        public string[]? Nicknames;
        public Address Home;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 2)]
        public Address[]? Work;
        public Guid Id;
        public decimal Balance;
        public nint Handle = -1;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Address
    {
        public short Number;
        public string? Street;
    }
}
