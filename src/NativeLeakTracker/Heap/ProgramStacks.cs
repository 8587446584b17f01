using NativeLeaks.Capture;
using NativeLeaks.Symbols;

namespace NativeLeaks.Heap;

/// <summary>
/// The part of each stack on which the program runs. The .NET runtime has threads of its own, which collect, compile and send events, and it has
/// frames outside of the program's outermost one, its host's for instance: no word there is meant for the program's memory, but a stale one can look like it.
/// Told by whose code the words on a stack could be addresses of.
/// </summary>
internal sealed class ProgramStacks
{
    private readonly FrozenWords _words;
    private readonly StackPlace _asked;
    private readonly AddressRanges _runtimes;
    private readonly AddressRanges _others;

    /// <param name="memory">Says what code is mapped.</param>
    /// <param name="words">The same memory.</param>
    /// <param name="asked">The frames of the thread that asked for the copy.</param>
    public ProgramStacks(FrozenMemory memory, FrozenWords words, StackPlace asked)
    {
        (_words, _asked) = (words, asked);
        ILookup<bool?, AddressRange> code = memory.Mappings.Where(static m => m.Protection.HasFlag(MemoryProtection.Execute))
            .ToLookup(static m => IsRuntimes(m.Path), static m => new AddressRange(m.Start, m.End));
        _runtimes = new AddressRanges(code[true]);
        _others = new AddressRanges(code[false]);
    }

    /// <summary>
    /// Of the asking thread, whose frames are known, up to the frames outside of anybody else's outermost one. Of the others, up to a word that may be an address of
    /// the runtime's outside of the outermost word that may be one of anybody else's code. Null: there is no such word, but some of the runtime's, so that
    /// nobody else runs there.
    /// </summary>
    public AddressRange? PartOf(ThreadArea area)
    {
        if (area.Thread.IsCaller && _asked.OutsideOf(_others.Contains) is not 0 and var end && area.Stack.Contains(end))
        {
            return area.Stack with { End = end };
        }

        var code = new CodeVisitor(this);
        _words.Visit(area.Stack.Start, area.Stack.End, ref code);
        return code.OutermostOther == 0 && code.NextOfRuntime != 0 && !area.Thread.Registers.Any(_others.Contains) ? null
            : code is { OutermostOther: not 0, NextOfRuntime: not 0 } ? area.Stack with { End = code.NextOfRuntime }
            : area.Stack;
    }

    /// <summary>Null: such code runs on everybody's threads.</summary>
    private static bool? IsRuntimes(string path) => ModuleRoles.OfNative(path) switch
    {
        ModuleRole.CRuntime => null,
        _ when path == "[vdso]" || ModuleRoles.IsTrackers(path) => null,
        var role => role == ModuleRole.DotnetRuntime,
    };

    private struct CodeVisitor(ProgramStacks stacks) : IWordVisitor
    {
        /// <summary>Where the word is; 0: there is none.</summary>
        public ulong OutermostOther { get; private set; }

        /// <summary>The first that is the runtime's outside of that; 0: there is none.</summary>
        public ulong NextOfRuntime { get; private set; }

        public void Visit(ulong address, ReadOnlySpan<ulong> words)
        {
            for (int i = 0; i < words.Length; i++)
            {
                ulong at = address + ((ulong)i * sizeof(ulong));
                if (stacks._others.Contains(words[i]))
                {
                    (OutermostOther, NextOfRuntime) = (at, 0);
                }
                else if (NextOfRuntime == 0 && stacks._runtimes.Contains(words[i]))
                {
                    NextOfRuntime = at;
                }
            }
        }
    }
}
