using NativeLeaks.Symbols;

namespace NativeLeaks.Heap;

/// <summary>
/// Which threads are the .NET runtime's own: those that collect, compile, and send events. Nothing of the program's runs on them, and so no word on
/// their stacks is meant for its memory. By who is on the stack: the runtime, and else nobody but libc and the like. A word that looks like an
/// address in somebody else's code is enough for a thread not to be one.
/// </summary>
internal sealed class RuntimeThreads
{
    private readonly FrozenWords _words;
    private readonly AddressRanges _runtimes;
    private readonly AddressRanges _others;

    /// <param name="memory">Says what code is mapped.</param>
    /// <param name="words">The same memory.</param>
    public RuntimeThreads(FrozenMemory memory, FrozenWords words)
    {
        _words = words;
        ILookup<bool?, AddressRange> code = memory.Mappings.Where(static m => m.Protection.HasFlag(MemoryProtection.Execute))
            .ToLookup(static m => IsRuntimes(m.Path), static m => new AddressRange(m.Start, m.End));
        _runtimes = new AddressRanges(code[true]);
        _others = new AddressRanges(code[false]);
    }

    public bool Contains(ThreadArea area)
    {
        if (area.Thread.IsCaller || area.Thread.Registers.Any(_others.Contains))
        {
            return false;
        }

        var code = new CodeVisitor(this);
        _words.Visit(area.Stack.Start, area.Stack.End, ref code);
        return code is { IsRuntimeThere: true, IsOtherThere: false };
    }

    /// <summary>Null: such code runs on everybody's threads.</summary>
    private static bool? IsRuntimes(string path) =>
        ModuleRoles.OfNative(path) == ModuleRole.CRuntime || path == "[vdso]" || ModuleRoles.IsTrackers(path) ? null : ModuleRoles.IsRuntimeLibrary(path);

    private struct CodeVisitor(RuntimeThreads threads) : IWordVisitor
    {
        public bool IsRuntimeThere { get; private set; }

        public bool IsOtherThere { get; private set; }

        public void Visit(ulong address, ReadOnlySpan<ulong> words)
        {
            foreach (ulong word in words)
            {
                IsRuntimeThere |= threads._runtimes.Contains(word);
                IsOtherThere |= threads._others.Contains(word);
            }
        }
    }
}
