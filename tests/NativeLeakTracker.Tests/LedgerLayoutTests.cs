using System.Buffers.Binary;
using System.Globalization;
using System.Reflection;
using System.Reflection.Emit;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using NativeLeaks.Ledger;

namespace NativeLeaks.Tests;

/// <summary>
/// The ledger is one memory with two descriptions: the C header, and its mirror in C#. A field that is added, moved,
/// renamed or resized on one side alone fails here. The C side is what the compiler says: tests/native/ledger_layout.c.
/// </summary>
[TestFixture]
public sealed partial class LedgerLayoutTests
{
    private static readonly Layout s_native = Layout.ReadNative();

    private static readonly Dictionary<string, Type> s_mirrors = new()
    {
        ["nlt_table"] = typeof(TableEntry),
        ["nlt_loss_counters"] = typeof(LossCounters),
        ["nlt_header"] = typeof(LedgerHeader),
        ["nlt_thread"] = typeof(ThreadEntry),
        ["nlt_module"] = typeof(ModuleEntry),
        ["nlt_image"] = typeof(ImageEntry),
        ["nlt_code"] = typeof(CodeEntry),
        ["nlt_context"] = typeof(ContextEntry),
        ["nlt_totals"] = typeof(TotalsEntry),
        ["nlt_pending_slot"] = typeof(PendingSlot),
        ["nlt_pending"] = typeof(PendingEntry),
        ["nlt_scope"] = typeof(ScopeEntry),
        ["nlt_epoch"] = typeof(EpochEntry),
        ["nlt_finalized"] = typeof(FinalizedEntry),
        ["nlt_chunk"] = typeof(ChunkEntry),
        ["nlt_pairing"] = typeof(PairingEntry),
    };

    private static readonly Dictionary<string, ulong> s_constants = new()
    {
        ["NLT_LEDGER_MAGIC"] = LedgerHeader.ExpectedMagic,
        ["NLT_LEDGER_VERSION"] = LedgerHeader.ExpectedVersion,

        ["NLT_TABLE_THREADS"] = (ulong)TableId.Threads,
        ["NLT_TABLE_MODULES"] = (ulong)TableId.Modules,
        ["NLT_TABLE_CODES"] = (ulong)TableId.Codes,
        ["NLT_TABLE_CONTEXTS"] = (ulong)TableId.Contexts,
        ["NLT_TABLE_EPOCHS"] = (ulong)TableId.Epochs,
        ["NLT_TABLE_STRINGS"] = (ulong)TableId.Strings,
        ["NLT_TABLE_CHUNKS"] = (ulong)TableId.Chunks,
        ["NLT_TABLE_TOTALS"] = (ulong)TableId.Totals,
        ["NLT_TABLE_PENDING"] = (ulong)TableId.Pending,
        ["NLT_TABLE_SCOPES"] = (ulong)TableId.Scopes,
        ["NLT_TABLE_FINALIZED"] = (ulong)TableId.Finalized,
        ["NLT_TABLE_FINE_DIRECTORY"] = (ulong)TableId.FineDirectory,
        ["NLT_TABLE_IMAGES"] = (ulong)TableId.Images,
        ["NLT_TABLE_BLOBS"] = (ulong)TableId.Blobs,
        ["NLT_TABLE_PAIRINGS"] = (ulong)TableId.Pairings,
        ["NLT_TABLE_DIRECTORY"] = (ulong)TableId.Directory,
        ["NLT_TABLE_COUNT"] = (ulong)Enum.GetValues<TableId>().Length,

        ["NLT_MODE_NONE"] = (ulong)CaptureMode.None,
        ["NLT_MODE_PRELOAD"] = (ulong)CaptureMode.Preload,
        ["NLT_MODE_LATE"] = (ulong)CaptureMode.Late,

        ["NLT_CODE_UNKNOWN"] = (ulong)CodeKind.Unknown,
        ["NLT_CODE_JIT"] = (ulong)CodeKind.Jit,
        ["NLT_CODE_R2R"] = (ulong)CodeKind.ReadyToRun,
        ["NLT_CODE_STUB"] = (ulong)CodeKind.Stub,
        ["NLT_CODE_COLLECTIBLE"] = (ulong)CodeFlags.Collectible,
        ["NLT_CODE_DYNAMIC"] = (ulong)CodeFlags.Dynamic,

        ["NLT_CONTEXT_ROOT"] = LiveWord.RootContext,
        ["NLT_FRAME_UNKNOWN"] = (ulong)NodeKind.Unknown,
        ["NLT_FRAME_NATIVE"] = (ulong)NodeKind.Native,
        ["NLT_FRAME_MANAGED"] = (ulong)NodeKind.Managed,
        ["NLT_FRAME_APPROXIMATE"] = (ulong)NodeFlags.Approximate,
        ["NLT_FRAME_EXACT_PC"] = (ulong)NodeFlags.ExactPc,
        ["NLT_FRAME_TRUNCATED"] = (ulong)NodeFlags.Truncated,
        ["NLT_FRAME_BROKEN"] = (ulong)NodeFlags.Broken,
        ["NLT_FRAME_FOLDED"] = (ulong)NodeFlags.Folded,

        ["NLT_PAIRING_NONE"] = (ulong)PairingKind.None,
        ["NLT_PAIRING_RELEASED_BEFORE"] = (ulong)PairingKind.ReleasedBefore,
        ["NLT_PAIRING_INSIDE_BLOCK"] = (ulong)PairingKind.InsideBlock,
        ["NLT_PAIRING_MISALIGNED"] = (ulong)PairingKind.Misaligned,
        ["NLT_PAIRING_ON_STACK"] = (ulong)PairingKind.OnStack,
        ["NLT_PAIRING_IN_IMAGE"] = (ulong)PairingKind.InImage,
        ["NLT_PAIRING_WRONG_FUNCTION"] = (ulong)PairingKind.WrongFunction,
        ["NLT_PAIRING_RESIZE"] = (ulong)PairingFlags.Resize,

        ["NLT_PENDING_SLOTS"] = PendingEntry.SlotCount,
        ["NLT_AMOUNT_BYTE_BITS"] = (ulong)long.PopCount(PendingSlot.Bytes(ulong.MaxValue)),

        ["NLT_TAG_OUTSIDE"] = EpochEntry.TagOutside,
        ["NLT_EPOCH_OLDER"] = LiveWord.EpochOlder,

        // A chunk says for itself how much of the heap a word of it stands for.
        ["NLT_CHUNK_HEAP_SHIFT"] = ulong.Log2(ChunkOf("NLT_WORD_HEAP_SHIFT").HeapEnd),
        ["NLT_CHUNK_WORDS"] = (ulong)ChunkOf("NLT_WORD_HEAP_SHIFT").WordCount,
        ["NLT_FINE_CHUNK_WORDS"] = (ulong)ChunkOf("NLT_FINE_HEAP_SHIFT").WordCount,
        ["NLT_SIZE_ESCAPE"] = LiveWord.SizeEscape,

        // The shifts of a live word have no names in C#; they are seen in what it reads from a word of ones.
        ["NLT_SIZE_BITS"] = (ulong)uint.PopCount(new LiveWord(ulong.MaxValue).Size),
        ["NLT_EPOCH_BITS"] = (ulong)uint.PopCount(new LiveWord(ulong.MaxValue).Epoch),
        ["NLT_WORD_QUARTER_SHIFT"] = LowestBit(word => word.Quarter),
        ["NLT_WORD_SIZE_SHIFT"] = LowestBit(word => word.Size),
        ["NLT_WORD_CONTEXT_SHIFT"] = LowestBit(word => word.Context),
    };

    // The engine's own affair: no reader needs them.
    private static readonly string[] s_notMirrored =
    [
        "NLT_MODULE_UNLOADED", "NLT_MAX_FRAMES", "NLT_MAX_CONTEXTS", "NLT_ADDRESS_BITS", "NLT_DIRECTORY_ENTRIES",
        "NLT_SCOPE_OUTSIDE", "NLT_TAG_NOBODY", "NLT_WORD_HEAP_SHIFT", "NLT_FINE_HEAP_SHIFT", "NLT_CHUNK_BYTES",
    ];

    public static IEnumerable<string> Structs => s_mirrors.Keys;

    [Test]
    public void Every_struct_of_the_header_is_compared()
    {
        var declared = Declaration().Matches(Header()).Select(match => match.Groups[1].Value);

        Assert.That(s_native.Sizes.Keys, Is.EquivalentTo(declared));
        Assert.That(s_mirrors.Keys, Is.EquivalentTo(declared));
    }

    [TestCaseSource(nameof(Structs))]
    public void Struct_has_the_same_size_on_both_sides(string name) =>
        Assert.That(SizeOf(s_mirrors[name]), Is.EqualTo(s_native.Sizes[name]));

    [TestCaseSource(nameof(Structs))]
    public void Every_byte_of_the_struct_belongs_to_a_field_that_is_compared(string name)
    {
        var at = 0;
        foreach (var field in s_native.Fields[name])
        {
            Assert.That(field.Offset, Is.EqualTo(at), $"ledger_layout.cmake overlooked what stands before {field.Name}");
            at += field.Size;
        }

        Assert.That(at, Is.EqualTo(s_native.Sizes[name]), "ledger_layout.cmake overlooked the end of the struct");
    }

    // Reserved fields may stand in C# or be left out there; where they stand, they must be reserved in C too.
    [TestCaseSource(nameof(Structs))]
    public void Fields_have_the_same_names_offsets_and_sizes_on_both_sides(string name)
    {
        var managed = FieldsOf(s_mirrors[name]);
        var native = s_native.Fields[name].ConvertAll(field => field with { Name = ManagedName(field.Name) });

        Assert.That(managed.Where(IsUsed), Is.EqualTo(native.Where(IsUsed)));
        Assert.That(managed.Where(IsReserved), Is.SubsetOf(native.Where(IsReserved)));
    }

    [Test]
    public void Every_constant_of_the_header_is_compared()
    {
        var declared = Constant().Matches(Comment().Replace(Header(), "")).Select(match => match.Value)
            .Where(name => name != "NLT_LEDGER_H").Distinct();

        Assert.That(s_native.Constants.Keys, Is.EquivalentTo(declared));
        Assert.That(s_constants.Keys.Concat(s_notMirrored), Is.EquivalentTo(declared));
    }

    [Test]
    public void Constants_have_the_same_values_on_both_sides() =>
        Assert.That(s_constants, Is.EquivalentTo(s_native.Constants.Where(pair => !s_notMirrored.Contains(pair.Key))));

    // What is named on one side only is not in the lists above.
    [Test]
    public void Every_value_of_the_mirrored_enums_is_compared()
    {
        Assert.That(Count<TableId>(), Is.EqualTo(CountNative("NLT_TABLE_") - 1));
        Assert.That(Count<CaptureMode>(), Is.EqualTo(CountNative("NLT_MODE_")));
        Assert.That(Count<CodeKind>() + Count<CodeFlags>() - 1, Is.EqualTo(CountNative("NLT_CODE_")));
        Assert.That(Count<PairingKind>() + Count<PairingFlags>() - 1, Is.EqualTo(CountNative("NLT_PAIRING_")));
        Assert.That(Count<NodeKind>() + Count<NodeFlags>() - 1, Is.EqualTo(CountNative("NLT_FRAME_")));

        static int Count<T>()
            where T : struct, Enum => Enum.GetValues<T>().Length;

        static int CountNative(string prefix) =>
            s_native.Constants.Keys.Count(name => name.StartsWith(prefix, StringComparison.Ordinal));
    }

    private static string Header() => File.ReadAllText(
        Path.Combine(RepositoryPaths.Root, "src", "NativeShim", "include", "nlt_ledger.h"));

    private static bool IsReserved(Field field) => field.Name.StartsWith("Reserved", StringComparison.Ordinal);

    private static bool IsUsed(Field field) => !IsReserved(field);

    /// <summary>load_bias is LoadBias; reserved32 is Reserved, as its size stands beside it.</summary>
    private static string ManagedName(string native) => native.StartsWith("reserved", StringComparison.Ordinal)
        ? "Reserved"
        : string.Concat(native.Split('_').Select(word => char.ToUpperInvariant(word[0]) + word[1..]));

    private static ulong LowestBit(Func<LiveWord, uint> field) =>
        (ulong)Enumerable.Range(0, 64).First(bit => field(new LiveWord(1UL << bit)) != 0);

    /// <summary>A chunk at address 0 whose words stand for as much of the heap as the constant says.</summary>
    private static ChunkEntry ChunkOf(string heapShift)
    {
        var bytes = new byte[SizeOf(typeof(ChunkEntry))];
        var field = typeof(ChunkEntry).GetField(nameof(ChunkEntry.HeapShift))!;
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(OffsetOf(field)), (uint)s_native.Constants[heapShift]);
        return MemoryMarshal.Read<ChunkEntry>(bytes);
    }

    private static List<Field> FieldsOf(Type type) =>
    [
        .. type.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic)
            .Select(field => new Field(field.Name, OffsetOf(field), SizeOf(field.FieldType)))
            .OrderBy(field => field.Offset),
    ];

    private static int SizeOf(Type type) => (int)typeof(Unsafe).GetMethod(nameof(Unsafe.SizeOf))!
        .MakeGenericMethod(type).Invoke(null, null)!;

    // Where the field really is. Marshal.OffsetOf would tell where a marshaller would put it.
    private static unsafe int OffsetOf(FieldInfo field)
    {
        var method = new DynamicMethod("OffsetOf", typeof(int), [typeof(nint)], typeof(LedgerHeader).Module, true);
        var body = method.GetILGenerator();
        body.Emit(OpCodes.Ldarg_0);
        body.Emit(OpCodes.Ldflda, field);
        body.Emit(OpCodes.Conv_U);
        body.Emit(OpCodes.Ldarg_0);
        body.Emit(OpCodes.Sub);
        body.Emit(OpCodes.Conv_I4);
        body.Emit(OpCodes.Ret);
        ulong somewhere = 0;
        return method.CreateDelegate<Func<nint, int>>()((nint)(&somewhere));
    }

    [GeneratedRegex(@"^struct (\w+) \{", RegexOptions.Multiline)]
    private static partial Regex Declaration();

    [GeneratedRegex(@"\bNLT_\w+")]
    private static partial Regex Constant();

    [GeneratedRegex(@"/\*.*?\*/", RegexOptions.Singleline)]
    private static partial Regex Comment();

    private sealed record Field(string Name, int Offset, int Size);

    private sealed class Layout
    {
        public Dictionary<string, int> Sizes { get; } = [];

        public Dictionary<string, List<Field>> Fields { get; } = [];

        public Dictionary<string, ulong> Constants { get; } = [];

        public static Layout ReadNative()
        {
            var run = ChildProcess.Run(Path.Combine(RepositoryPaths.NativeFixtures, "ledger_layout"), []);
            Assert.That(run.ExitCode, Is.Zero, run.Error);
            var layout = new Layout();
            foreach (var line in run.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries))
            {
                switch (line.Split(' '))
                {
                    case ["struct", var name, var size]:
                        layout.Sizes.Add(name, Number(size));
                        layout.Fields.Add(name, []);
                        break;
                    case ["field", var name, var field, var offset, var size]:
                        layout.Fields[name].Add(new Field(field, Number(offset), Number(size)));
                        break;
                    case ["constant", var name, var value]:
                        layout.Constants.Add(name, ulong.Parse(value, CultureInfo.InvariantCulture));
                        break;
                    default:
                        throw new FormatException(line);
                }
            }

            return layout;
        }

        private static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);
    }
}
