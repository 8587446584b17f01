using Microsoft.Diagnostics.Runtime;
using Microsoft.Diagnostics.Runtime.AbstractDac;
using NativeLeaks.Heap.Managed;
using DacFieldKind = Microsoft.Diagnostics.Runtime.AbstractDac.FieldKind;
using Field = (int Offset, int Bytes, int Kind, string Name);
using FieldKind = NativeLeaks.Heap.Managed.FieldKind;

namespace NativeLeaks.RuntimeReader;

/// <summary>
/// The fields of a type, those of structures inside it among them, each by its name as <c>outer.inner</c>. Taken from what the
/// runtime laid out, not from signatures: ClrMD's own types tell the fields of a generic structure as if all its arguments were
/// references.
/// </summary>
internal sealed class FieldLayout
{
    private const int MaxDepth = 16;
    private const int MaxAncestors = 128;
    private const int MaxFields = 4096;
    private const int ObjectOverhead = 2 * sizeof(ulong);

    private readonly IAbstractTypeHelpers _types;
    private readonly IAbstractModuleHelpers _modules;
    private readonly List<Field> _fields = [];

    private FieldLayout(IAbstractTypeHelpers types, IAbstractModuleHelpers modules)
    {
        _types = types;
        _modules = modules;
    }

    /// <summary>Of an object, from its first byte on, where the address of its method table stands.</summary>
    public static Field[] OfObject(IAbstractTypeHelpers types, IAbstractModuleHelpers modules, ulong methodTable)
    {
        var layout = new FieldLayout(types, modules);
        layout.AddFields(methodTable, sizeof(ulong), "", 0);
        return [.. layout._fields];
    }

    /// <summary>Of an element of an array, from the element's first byte on.</summary>
    public static Field[] OfElement(IAbstractTypeHelpers types, IAbstractModuleHelpers modules, in ObjectArrayInformation array, int bytes)
    {
        var layout = new FieldLayout(types, modules);
        layout.AddField(array.ComponentElementType, array.ComponentType, 0, bytes, "", 0);
        return [.. layout._fields];
    }

    /// <summary>The fields that instances have, those of the types that it derives from first, and the modules that declare them.</summary>
    public static List<(FieldInfo Field, ulong Module)> InstanceFields(IAbstractTypeHelpers types, ulong methodTable, int depth = 0)
    {
        if (methodTable == 0 || depth > MaxAncestors || !types.GetTypeInfo(methodTable, out TypeInfo type))
        {
            return [];
        }

        List<(FieldInfo, ulong)> fields = InstanceFields(types, type.ParentMethodTable, depth + 1);
        fields.AddRange(types.EnumerateFields(type, fields.Count).Where(static f => f.Kind == DacFieldKind.Instance).Select(f => (f, type.ModuleAddress)));
        return fields;
    }

    public static string NameOf(IAbstractModuleHelpers modules, ulong module, int token) =>
        modules.GetMetadataReader(module) is { } metadata && metadata.GetFieldDefInfo(token, out FieldDefInfo info) ? info.Name ?? "?" : "?";

    public static bool IsReference(ClrElementType type) => type is
        ClrElementType.String or ClrElementType.Class or ClrElementType.Array or ClrElementType.SZArray or ClrElementType.Object
        or ClrElementType.Var or ClrElementType.MVar;

    private void AddFields(ulong methodTable, int start, string prefix, int depth)
    {
        List<(FieldInfo Field, ulong Module)> fields = InstanceFields(_types, methodTable);
        int end = start + (_types.GetTypeInfo(methodTable, out TypeInfo type) ? type.StaticSize - ObjectOverhead : 0);
        foreach ((FieldInfo field, ulong module) in fields)
        {
            if (_fields.Count >= MaxFields)
            {
                break;
            }

            int offset = start + field.Offset;
            int next = fields.Min(other => other.Field.Offset > field.Offset ? start + other.Field.Offset : end);
            int bytes = SizeOf(field, next - offset);
            string name = prefix + NameOf(_modules, module, field.Token);

            // Inline arrays and fixed buffers have one field, and room for many of it.
            int elements = depth > 0 && fields.Count == 1 && bytes > 0 ? Math.Max(1, (end - start) / bytes) : 1;
            if (elements == 1)
            {
                AddField(field.ElementType, field.MethodTable, offset, bytes, name, depth);
                continue;
            }

            string owner = prefix.TrimEnd('.');
            for (int element = 0; element < elements && _fields.Count < MaxFields; element++)
            {
                AddField(field.ElementType, field.MethodTable, offset + (element * bytes), bytes, $"{owner}[{element}]", depth);
            }
        }
    }

    private void AddField(ClrElementType element, ulong methodTable, int offset, int bytes, string name, int depth)
    {
        if (IsReference(element))
        {
            Add(offset, sizeof(ulong), FieldKind.Reference, name);
        }
        else if (element is ClrElementType.NativeInt or ClrElementType.NativeUInt or ClrElementType.Pointer
            or ClrElementType.FunctionPointer or ClrElementType.Int64 or ClrElementType.UInt64)
        {
            Add(offset, sizeof(ulong), FieldKind.Address, name);
        }
        else if (element is >= ClrElementType.Boolean and <= ClrElementType.Double)
        {
            Add(offset, bytes, FieldKind.Plain, name);
        }
        else if (methodTable == 0 || depth >= MaxDepth)
        {
            Add(offset, bytes, FieldKind.Unknown, name);
        }
        else
        {
            AddFields(methodTable, offset, name.Length == 0 ? "" : name + ".", depth + 1);
        }
    }

    private int SizeOf(in FieldInfo field, int room) => field.ElementType switch
    {
        ClrElementType.Boolean or ClrElementType.Int8 or ClrElementType.UInt8 => 1,
        ClrElementType.Char or ClrElementType.Int16 or ClrElementType.UInt16 => 2,
        ClrElementType.Int32 or ClrElementType.UInt32 or ClrElementType.Float => 4,
        ClrElementType.Struct when field.MethodTable != 0 && _types.GetTypeInfo(field.MethodTable, out TypeInfo type) =>
            Math.Clamp(type.StaticSize - ObjectOverhead, 1, Math.Max(room, 1)),
        ClrElementType.Struct => Math.Max(room, 1),
        _ => sizeof(ulong),
    };

    private void Add(int offset, int bytes, FieldKind kind, string name) => _fields.Add((offset, bytes, (int)kind, name));
}
