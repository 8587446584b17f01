using System.ComponentModel;
using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using NativeLeaks.Capture;

namespace NativeLeaks;

/// <content>
/// A string field of a marshalled structure is a block of its own, allocated inside the runtime. The wrappers find it
/// where the runtime put it: in the pointer-sized slot of the field.
/// </content>
public static unsafe partial class TrackedMarshal
{
    // Weak keys: a collectible type is not kept alive.
    private static readonly ConditionalWeakTable<Type, StringSlot[]> s_stringSlots = [];

    /// <inheritdoc cref="Marshal.StructureToPtr(object, nint, bool)"/>
    [RequiresDynamicCode(
        "Marshalling code for the object might not be available. Use the StructureToPtr<T> overload instead.")]
    [EditorBrowsable(EditorBrowsableState.Never)]
    public static void StructureToPtr(object structure, nint ptr, bool fDeleteOld) =>
        StructureToPtr(structure, ptr, fDeleteOld, "Marshal.StructureToPtr(Object, IntPtr, Boolean)");

    /// <inheritdoc cref="Marshal.StructureToPtr{T}(T, nint, bool)"/>
    public static void StructureToPtr<T>([DisallowNull] T structure, nint ptr, bool fDeleteOld) =>
        StructureToPtr(structure, ptr, fDeleteOld, "Marshal.StructureToPtr<T>(T, IntPtr, Boolean)");

    /// <inheritdoc cref="Marshal.DestroyStructure(nint, Type)"/>
    [RequiresDynamicCode(
        "Marshalling code for the object might not be available. Use the DestroyStructure<T> overload " +
        "instead.")]
    [EditorBrowsable(EditorBrowsableState.Never)]
    public static void DestroyStructure(nint ptr, Type structuretype)
    {
        StringsReleased(ptr, StringSlots(ptr, structuretype));
        Marshal.DestroyStructure(ptr, structuretype);
    }

    /// <inheritdoc cref="Marshal.DestroyStructure{T}(nint)"/>
    public static void DestroyStructure<T>(nint ptr)
    {
        StringsReleased(ptr, StringSlots(ptr, typeof(T)));
        Marshal.DestroyStructure<T>(ptr);
    }

    private static void StructureToPtr<T>([DisallowNull] T structure, nint ptr, bool fDeleteOld, string api)
    {
        StringSlot[] slots = StringSlots(ptr, structure?.GetType());
        WrapperLedger.ReleasedBlock[] old = fDeleteOld ? StringsReleased(ptr, slots) : [];
        try
        {
            Marshal.StructureToPtr(structure!, ptr, fDeleteOld);
        }
        catch
        {
            // Arguments are refused before the old strings are freed, a wrong array length is found afterwards;
            // freeing clears the slot.
            for (int i = 0; i < old.Length; i++)
            {
                if (slots[i].Read(ptr) == old[i].Block?.Address)
                {
                    WrapperLedger.PutBack(old[i]);
                }
            }

            throw;
        }

        foreach (StringSlot slot in slots)
        {
            WrapperLedger.Shared.Allocated(slot.Read(ptr), sizeBytes: null, api, slot.Family);
        }
    }

    private static WrapperLedger.ReleasedBlock[] StringsReleased(nint ptr, StringSlot[] slots) =>
        Array.ConvertAll(slots, slot => WrapperLedger.Shared.Released(slot.Read(ptr)));

    private static StringSlot[] StringSlots(nint ptr, Type? type)
    {
        if (ptr == 0 || type is null || !WrapperLedger.Shared.IsOpen)
        {
            return [];
        }

        return s_stringSlots.GetValue(type, static type =>
        {
            try
            {
                return [.. FieldSlots(type, start: 0)];
            }
            catch (ArgumentException)
            {
                // Not a type that can be marshalled: the real call is about to say so itself.
                return [];
            }
        });
    }

    [UnconditionalSuppressMessage("Trimming", "IL2070", Justification = "Trimming keeps what is marshalled.")]
    [UnconditionalSuppressMessage("AOT", "IL3050", Justification = "The real call needs the same layout.")]
    private static IEnumerable<StringSlot> FieldSlots(Type type, nint start)
    {
        const BindingFlags OwnFields =
            BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;

        // A base class lies at the start of its derived class, its private fields included.
        IEnumerable<StringSlot> inherited = HasFieldsOfUsers(type.BaseType) ? FieldSlots(type.BaseType, start) : [];
        return inherited.Concat(type.GetFields(OwnFields).SelectMany(field => ValueSlots(
            field.FieldType,
            start + Marshal.OffsetOf(type, field.Name),
            field.GetCustomAttribute<MarshalAsAttribute>())));
    }

    [UnconditionalSuppressMessage("AOT", "IL3050", Justification = "The real call needs the same layout.")]
    private static IEnumerable<StringSlot> ValueSlots(Type type, nint offset, MarshalAsAttribute? how)
    {
        if (type == typeof(string))
        {
            return how?.Value switch
            {
                UnmanagedType.ByValTStr => [],
                UnmanagedType.BStr or TBStr => [new(offset, AllocationFamily.Bstr)],
                _ => [new(offset, AllocationFamily.CoTaskMem)],
            };
        }

        if (type.IsArray && how is { Value: UnmanagedType.ByValArray })
        {
            Type element = type.GetElementType()!;
            int strideBytes = element == typeof(string) ? sizeof(nint)
                : HasFieldsOfUsers(element) ? Marshal.SizeOf(element)
                : 0;
            return strideBytes == 0 ? [] : Enumerable.Range(0, how.SizeConst).SelectMany(i =>
                ValueSlots(element, offset + (i * strideBytes), new(how.ArraySubType)));
        }

        return HasFieldsOfUsers(type) ? FieldSlots(type, offset) : [];
    }

    // No structure of the framework has string fields, and some cannot be asked for their layout. Delegates have none
    // either (automatic layout).
    private static bool HasFieldsOfUsers([NotNullWhen(true)] Type? type) =>
        type is { IsEnum: false, IsPointer: false }
        && (type.IsLayoutSequential || type.IsExplicitLayout)
        && type.Assembly != typeof(object).Assembly;

    // The enum's own name for it is obsolete, but a structure may still use it.
    private const UnmanagedType TBStr = (UnmanagedType)36;

    /// <summary>
    /// Where in a marshalled structure the pointer to a string lies, and whose allocator it comes from.
    /// </summary>
    private readonly record struct StringSlot(nint Offset, AllocationFamily Family)
    {
        // A packed structure need not be aligned.
        internal nint Read(nint structure) => Unsafe.ReadUnaligned<nint>((void*)(structure + Offset));
    }
}
