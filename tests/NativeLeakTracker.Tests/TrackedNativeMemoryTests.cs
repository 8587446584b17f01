using System.ComponentModel;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using NativeLeaks.Capture;
using static NativeLeaks.Tests.SignatureParity;
using Tracked = NativeLeaks.TrackedNativeMemory;

namespace NativeLeaks.Tests;

[TestFixture]
[NonParallelizable]
internal sealed unsafe class TrackedNativeMemoryTests
{
    private static IEnumerable<TestCaseData> Allocations =>
    [
        Case("Alloc(UIntPtr)", () => Tracked.Alloc(100), 100),
        Case("Alloc(UIntPtr, UIntPtr)", () => Tracked.Alloc(10, 12), 120),
        Case("AllocZeroed(UIntPtr)", () => Tracked.AllocZeroed(100), 100),
        Case("AllocZeroed(UIntPtr, UIntPtr)", () => Tracked.AllocZeroed(10, 12), 120),
        Case("Realloc(Void*, UIntPtr)", () => Tracked.Realloc(null, 64), 64),
        AlignedCase("AlignedAlloc(UIntPtr, UIntPtr)", () => Tracked.AlignedAlloc(100, 64), 100),
        AlignedCase("AlignedRealloc(Void*, UIntPtr, UIntPtr)", () => Tracked.AlignedRealloc(null, 100, 64), 100),
    ];

    [Test]
    public void Every_member_of_NativeMemory_has_its_twin()
    {
        Assert.That(Signatures(typeof(Tracked)), Is.EquivalentTo(Signatures(typeof(NativeMemory))));
    }

    [Test]
    public void Every_allocation_of_NativeMemory_is_among_the_cases_here()
    {
        IEnumerable<string> apis = typeof(NativeMemory).GetMethods()
            .Where(method => method.ReturnType == typeof(void*))
            .Select(Api);
        Assert.That(Allocations.Select(test => ((WrapperCase)test.Arguments[0]!).Api), Is.EquivalentTo(apis));
    }

    [TestCaseSource(nameof(Allocations))]
    public void Each_allocation_is_recorded_until_it_is_freed(WrapperCase call)
    {
        using WrappersRecording recording = new();

        nint address = call.Allocate();

        WrapperBlock block = recording.Outstanding.Single();
        Assert.That(
            (block.Address, block.Api, block.Family, block.SizeBytes),
            Is.EqualTo((address, call.Api, call.Family, call.SizeBytes)));

        call.Free(address);
        Assert.That(recording.Outstanding, Is.Empty);
    }

    [TestCaseSource(nameof(Allocations))]
    public void Without_a_scope_each_allocation_is_the_plain_call(WrapperCase call)
    {
        long before = WrapperLedger.Shared.Sequence;

        nint address = call.Allocate();
        new Span<byte>((void*)address, (int)call.SizeBytes!).Fill(0xAA);
        call.Free(address);

        Assert.That(WrapperLedger.Shared.Sequence, Is.EqualTo(before));
    }

    [Test]
    public void The_stack_names_the_method_that_called_the_wrapper()
    {
        using WrappersRecording recording = new();

        nint address = AllocateHere();

        StackTrace stack = recording.Outstanding.Single().Stack;
        Assert.That(stack.GetFrame(0)?.GetMethod()?.Name, Is.EqualTo(nameof(AllocateHere)));
        Tracked.Free((void*)address);
    }

    [Test]
    public void Zero_bytes_are_a_block_that_must_be_freed()
    {
        using WrappersRecording recording = new();

        void* block = Tracked.Alloc(0);
        void* zeroed = Tracked.AllocZeroed(0, 5);
        void* aligned = Tracked.AlignedAlloc(0, 16);
        Assert.That(recording.Outstanding.Select(one => one.SizeBytes), Is.EqualTo(new long?[] { 0, 0, 0 }));

        block = Tracked.Realloc(block, 0);
        aligned = Tracked.AlignedRealloc(aligned, 0, 16);
        Assert.That(
            recording.Outstanding.Select(one => one.Address),
            Is.EqualTo(new[] { (nint)zeroed, (nint)block, (nint)aligned }));

        Tracked.Free(block);
        Tracked.Free(zeroed);
        Tracked.AlignedFree(aligned);
        Assert.That(recording.Outstanding, Is.Empty);
    }

    [Test]
    public void Freeing_null_does_nothing()
    {
        using WrappersRecording recording = new();
        long unknown = WrapperLedger.Shared.UnknownFrees;

        Tracked.Free(null);
        Tracked.AlignedFree(null);

        Assert.That(WrapperLedger.Shared.UnknownFrees, Is.EqualTo(unknown));
    }

    [Test]
    public void Realloc_keeps_the_content_and_replaces_the_record()
    {
        using WrappersRecording recording = new();
        byte* block = (byte*)Tracked.AllocZeroed(16);
        block[15] = 42;

        block = (byte*)Tracked.Realloc(block, 1_000_000);

        WrapperBlock record = recording.Outstanding.Single();
        Assert.That(block[15], Is.EqualTo(42));
        Assert.That(record.Address, Is.EqualTo((nint)block));
        Assert.That(record.SizeBytes, Is.EqualTo(1_000_000));
        Assert.That(record.Api, Is.EqualTo("NativeMemory.Realloc(Void*, UIntPtr)"));
        Tracked.Free(block);
    }

    [Test]
    public void A_failing_call_throws_what_the_real_one_throws_and_keeps_the_record()
    {
        using WrappersRecording recording = new();
        nint block = (nint)Tracked.Alloc(16);
        nint aligned = (nint)Tracked.AlignedAlloc(16, 16);
        IReadOnlyList<WrapperBlock> before = recording.Outstanding;

        AssertSameFailure(() => NativeMemory.Alloc(nuint.MaxValue), () => Tracked.Alloc(nuint.MaxValue));
        AssertSameFailure(() => NativeMemory.Alloc(nuint.MaxValue, 2), () => Tracked.Alloc(nuint.MaxValue, 2));
        AssertSameFailure(
            () => NativeMemory.AllocZeroed(nuint.MaxValue / 2, 3),
            () => Tracked.AllocZeroed(nuint.MaxValue / 2, 3));
        AssertSameFailure(
            () => NativeMemory.Realloc((void*)block, nuint.MaxValue),
            () => Tracked.Realloc((void*)block, nuint.MaxValue));
        AssertSameFailure(() => NativeMemory.AlignedAlloc(16, 3), () => Tracked.AlignedAlloc(16, 3));
        AssertSameFailure(
            () => NativeMemory.AlignedRealloc((void*)aligned, 32, 3),
            () => Tracked.AlignedRealloc((void*)aligned, 32, 3));
        AssertSameFailure(
            () => NativeMemory.AlignedRealloc((void*)aligned, nuint.MaxValue, 16),
            () => Tracked.AlignedRealloc((void*)aligned, nuint.MaxValue, 16));

        Assert.That(recording.Outstanding, Is.EqualTo(before));
        Tracked.Free((void*)block);
        Tracked.AlignedFree((void*)aligned);
    }

    [Test]
    public void Clear_Copy_and_Fill_are_passed_on()
    {
        byte* from = stackalloc byte[4];
        byte* to = stackalloc byte[4];

        Tracked.Fill(from, 4, 7);
        Tracked.Copy(from, to, 3);
        Tracked.Clear(to, 1);

        Assert.That(new ReadOnlySpan<byte>(to, 4).ToArray(), Is.EqualTo(new byte[] { 0, 7, 7, 0 }));
    }

    private delegate void* Allocation();

    private static TestCaseData Case(string call, Allocation allocate, long sizeBytes) => WrapperCase.Named(new(
        $"NativeMemory.{call}",
        () => (nint)allocate(),
        address => Tracked.Free((void*)address),
        AllocationFamily.NativeMemory,
        sizeBytes));

    private static TestCaseData AlignedCase(string call, Allocation allocate, long sizeBytes) => WrapperCase.Named(new(
        $"NativeMemory.{call}",
        () => (nint)allocate(),
        address => Tracked.AlignedFree((void*)address),
        AllocationFamily.AlignedNativeMemory,
        sizeBytes));

    // Not optimized: a wrapper called last may be jumped to, and then this method is on no stack.
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.NoOptimization)]
    private static nint AllocateHere()
    {
        void* block = Tracked.Alloc(8);
        return (nint)block;
    }
}

/// <summary>A way to allocate through a wrapper, what the ledger must say of the block, and how to free it.</summary>
internal sealed record WrapperCase(
    string Api,
    Func<nint> Allocate,
    Action<nint> Free,
    AllocationFamily Family,
    long? SizeBytes)
{
    internal static TestCaseData Named(WrapperCase call) => new TestCaseData(call).SetArgDisplayNames(call.Api);
}

/// <summary>Compares a Tracked class with the class that it stands in for.</summary>
internal static class SignatureParity
{
    private const BindingFlags Members = BindingFlags.Public | BindingFlags.Static | BindingFlags.DeclaredOnly;

    /// <summary>
    /// The public static members, a line each: types, names, modifiers, nullability, constraints and the attributes
    /// that callers feel. Not those that are obsolete or for Windows only.
    /// </summary>
    internal static IEnumerable<string> Signatures(Type type) =>
        type.GetMethods(Members)
            .Where(method => !method.IsDefined(typeof(ObsoleteAttribute)))
            .Where(method => method.GetCustomAttribute<SupportedOSPlatformAttribute>()?.PlatformName != "windows")
            .Select(Signature)
            .Concat(type.GetFields(Members).Select(field => $"{field.FieldType} {field.Name}"));

    /// <summary>A method as reports name it.</summary>
    internal static string Api(MethodInfo method) =>
        $"{method.DeclaringType!.Name}.{method.Name}"
        + $"({List(method.GetParameters().Select(parameter => parameter.ParameterType.Name))})";

    /// <summary>Both calls throw the same type with the same words.</summary>
    internal static unsafe void AssertSameFailure(Call real, Call tracked)
    {
        Exception expected = Assert.Catch(() => real())!;
        Exception actual = Assert.Catch(() => tracked())!;
        Assert.That((actual.GetType(), actual.Message), Is.EqualTo((expected.GetType(), expected.Message)));
    }

    internal unsafe delegate void* Call();

    private static string Signature(MethodInfo method) =>
        $"{Attributes(method)}{Parameter(method.ReturnParameter)} {method.Name}"
        + $"<{List(method.GetGenericArguments().Select(TypeParameter))}>"
        + $"({List(method.GetParameters().Select(Parameter))})";

    private static string TypeParameter(Type type) =>
        $"{Attributes(type)}{type.Name} : {type.GenericParameterAttributes} "
        + List(type.GetGenericParameterConstraints().Select(constraint => constraint.Name));

    private static string Parameter(ParameterInfo parameter)
    {
        NullabilityInfo nullability = new NullabilityInfoContext().Create(parameter);
        return $"{Attributes(parameter)}[{parameter.Attributes}] {parameter.ParameterType} {parameter.Name} "
            + $"{nullability.ReadState}/{nullability.WriteState}";
    }

    private static string List(IEnumerable<string> items) => string.Join(", ", items);

    private static string Attributes(ICustomAttributeProvider target) =>
        string.Concat(target.GetCustomAttributes(inherit: false).Select(attribute => attribute switch
        {
            EditorBrowsableAttribute one => $"[{one.State}] ",
            RequiresDynamicCodeAttribute one => $"[RequiresDynamicCode {one.Message}] ",
            RequiresUnreferencedCodeAttribute one => $"[RequiresUnreferencedCode {one.Message} {one.Url}] ",
            RequiresAssemblyFilesAttribute one => $"[RequiresAssemblyFiles {one.Message}] ",
            DynamicallyAccessedMembersAttribute one => $"[{one.MemberTypes}] ",
            DisallowNullAttribute => "[DisallowNull] ",
            SupportedOSPlatformAttribute one => $"[{one.PlatformName}] ",
            UnsupportedOSPlatformAttribute one => $"[not {one.PlatformName}] ",
            _ => "",
        }).Order(StringComparer.Ordinal));
}
