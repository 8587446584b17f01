using System.Globalization;
using System.Text;

namespace NativeLeaks.Heap.Managed;

/// <summary>
/// Ways through the managed heap as the source reads, outermost first:
/// <c>static Cache.Instance -> Dictionary&lt;String, SafeStatement&gt;["q1"] -> SafeStatement.handle</c>.
/// </summary>
internal sealed class ObjectPaths(ManagedHeap heap, RuntimeView runtime)
{
    private const int MaxSteps = 8;
    private const int MaxKeyLength = 40;

    /// <summary>To the word of the holder, without what it points to.</summary>
    public string Of(in ManagedHolder holder)
    {
        (ManagedRoot? root, IReadOnlyList<ulong> objects) = heap.WayTo(holder.Entry);
        List<string> steps = [];
        int first = 0;
        if (root is { } known)
        {
            steps.Add(NameOf(known, objects));
            first = known.Kind == RootKind.Static ? 1 : 0;
        }

        for (int i = first; i < objects.Count; i++)
        {
            int offset = i + 1 < objects.Count ? heap.OffsetOf(objects[i], objects[i + 1]) : holder.Offset;
            if (i + 2 <= objects.Count && i + 1 < objects.Count && Collection(objects, i, holder) is { } collection)
            {
                steps.Add(collection);
                i++;
                continue;
            }

            steps.Add(heap.TypeNameOf(objects[i]) + Accessor(objects[i], offset));
        }

        return string.Join(" -> ", Shorten(steps));
    }

    /// <summary>
    /// Without namespaces: <c>System.Collections.Generic.List&lt;Ns.Outer+Inner[]&gt;</c> is <c>List&lt;Outer.Inner[]&gt;</c>; of a field's name the type
    /// stays: <c>Ns.Type.Field</c> is <c>Type.Field</c> when <paramref name="name"/> begins with a word and a blank.
    /// </summary>
    public static string ShortName(string name)
    {
        var text = new StringBuilder(name.Length);
        var part = new StringBuilder();
        bool isMember = name.StartsWith("static ", StringComparison.Ordinal) || name.StartsWith("[ThreadStatic] ", StringComparison.Ordinal);
        foreach (char c in name)
        {
            if (char.IsLetterOrDigit(c) || c is '.' or '_' or '+' or '`')
            {
                part.Append(c);
            }
            else
            {
                Flush(text, part, isMember);
                text.Append(c);
            }
        }

        Flush(text, part, isMember);
        return text.ToString();
    }

    private static void Flush(StringBuilder text, StringBuilder part, bool isMember)
    {
        string[] names = part.ToString().Split('.');
        int kept = isMember && names.Length > 1 ? 2 : 1;
        string last = string.Join('.', names[^Math.Min(kept, names.Length)..]).Replace('+', '.');
        int tick = last.IndexOf('`', StringComparison.Ordinal);
        text.Append(tick < 0 ? last : last[..tick]);
        part.Clear();
    }

    private static List<string> Shorten(List<string> steps) =>
        steps.Count <= MaxSteps ? steps : [.. steps.Take(MaxSteps / 2), "...", .. steps.Skip(steps.Count - (MaxSteps / 2))];

    private string NameOf(ManagedRoot root, IReadOnlyList<ulong> objects) => root.Kind switch
    {
        RootKind.Static when objects.Count > 1 && heap.OffsetOf(objects[0], objects[1]) is > 0 and var offset =>
            heap.StaticAt(objects[0] + (ulong)offset) ?? "a static field of a generic type",
        RootKind.Static => "static fields",
        RootKind.StrongHandle => "GCHandle",
        RootKind.PinnedHandle => "pinned GCHandle",
        RootKind.FinalizerQueue => "finalizer queue",
        RootKind.ThreadStatic => string.Create(CultureInfo.InvariantCulture, $"thread storage of thread {root.ThreadId}"),
        _ => string.Create(CultureInfo.InvariantCulture, $"stack of thread {root.ThreadId}"),
    };

    private string Accessor(ulong instance, int offset)
    {
        ObjectLayout layout = heap.LayoutOf(instance);
        if (layout.ElementBytes > 0 && offset >= layout.ElementsStart)
        {
            int index = (offset - layout.ElementsStart) / layout.ElementBytes;
            string inElement = FieldName(instance, (offset - layout.ElementsStart) % layout.ElementBytes, isInElement: true);
            return string.Create(CultureInfo.InvariantCulture, $"[{index}]") + (inElement.Length > 0 ? "." + inElement : "");
        }

        string field = FieldName(instance, offset, isInElement: false);
        return field.Length > 0 ? "." + field : "";
    }

    private string FieldName(ulong instance, int offset, bool isInElement)
    {
        string name = RuntimeView.Ask(() => runtime.FieldAt(instance, offset, isInElement))?.Name ?? "";
        return string.Join('.', name.Split('.').Select(static n =>
            n.StartsWith('<') && n.IndexOf('>', StringComparison.Ordinal) is > 1 and var end ? n[1..end] : n));
    }

    /// <summary>A list or dictionary and the array inside it read as one; null: it is neither.</summary>
    private string? Collection(IReadOnlyList<ulong> objects, int i, in ManagedHolder holder)
    {
        string type = heap.TypeNameOf(objects[i]);
        string field = FieldName(objects[i], heap.OffsetOf(objects[i], objects[i + 1]), isInElement: false);
        ulong array = objects[i + 1];
        ObjectLayout layout = heap.LayoutOf(array);
        int offset = i + 2 < objects.Count ? heap.OffsetOf(array, objects[i + 2]) : holder.Offset;
        if (layout.ElementBytes == 0 || offset < layout.ElementsStart)
        {
            return null;
        }

        int index = (offset - layout.ElementsStart) / layout.ElementBytes;
        int inElement = (offset - layout.ElementsStart) % layout.ElementBytes;
        return (type, field) switch
        {
            _ when type.StartsWith("List<", StringComparison.Ordinal) && field == "_items" =>
                string.Create(CultureInfo.InvariantCulture, $"{type}[{index}]") + Suffix(FieldName(array, inElement, isInElement: true), ""),
            _ when type.StartsWith("Dictionary<", StringComparison.Ordinal) && field == "_entries" =>
                $"{type}[{KeyOf(array, layout, index)}]" + Suffix(FieldName(array, inElement, isInElement: true), "value"),
            _ => null,
        };
    }

    /// <summary>What comes after the element itself.</summary>
    private static string Suffix(string field, string self) =>
        field == self ? "" : field.StartsWith(self + ".", StringComparison.Ordinal) ? field[self.Length..] : "." + field;

    /// <summary>The key of a dictionary's entry where it is a string or a number, else the entry's place.</summary>
    private string KeyOf(ulong array, ObjectLayout layout, int index)
    {
        int entry = layout.ElementsStart + (index * layout.ElementBytes);
        for (int offset = 0; offset < layout.ElementBytes; offset += sizeof(int))
        {
            if (FieldName(array, offset, isInElement: true) == "key")
            {
                ulong word = heap.WordAt(array, entry + offset);
                return heap.TextOf(word, MaxKeyLength) is { } text ? $"\"{text}\""
                    : heap.IsInHeap(word) ? heap.TypeNameOf(word)
                    : string.Create(CultureInfo.InvariantCulture, $"{(long)word}");
            }
        }

        return string.Create(CultureInfo.InvariantCulture, $"entry {index}");
    }
}
