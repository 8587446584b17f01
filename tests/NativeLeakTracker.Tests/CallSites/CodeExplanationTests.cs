using NativeLeaks.Symbols;
using NativeLeaks.Symbols.CallSites;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Tests.CallSites;

/// <summary>The machine code around a call is shown as people read it.</summary>
[TestFixture]
public sealed class CodeExplanationTests
{
    [Test]
    public void Call_of_a_return_address_is_marked_and_names_whom_it_calls()
    {
        using var stacks = AllocationStacks.Record(Library, "plain_links");
        var frame = stacks.Stacks.Single().Frames[0];

        var explanation = new CallDecoder().Explain(frame.Image, frame.Address, isReturnAddress: true, before: 100, after: 2)!;

        Assert.That(explanation.Function.Name, Is.EqualTo("plain_links"));
        Assert.That(explanation.Instructions[0].Address, Is.EqualTo(explanation.Function.Start));
        var here = explanation.Instructions.Single(instruction => instruction.IsHere);
        Assert.That(here.Text, Is.EqualTo("call malloc"));
        Assert.That(here.IsCall, Is.True);
        Assert.That(here.Address + (ulong)here.Bytes.Count, Is.EqualTo(frame.Address));
        Assert.That(explanation.Instructions[^3], Is.SameAs(here), "two more follow");
        Assert.That(explanation.Instructions[^1].Text, Does.StartWith("ret").Or.StartWith("mov").Or.StartWith("add rsp"));
    }

    [Test]
    public void Instructions_follow_each_other_and_their_bytes_are_those_of_the_file()
    {
        using var image = NativeSymbols.Open(Library, SymbolSettings.None);
        var function = image.FunctionAt(image.AddressOf("by_kind")!.Value)!.Value;

        var explanation = new CallDecoder().Explain(image, function.Start, isReturnAddress: false, before: 5, after: 500)!;

        var end = function.Start;
        foreach (var instruction in explanation.Instructions)
        {
            Assert.That(instruction.Address, Is.EqualTo(end));
            Assert.That(instruction.Bytes, Is.EqualTo(image.CodeAt(end, instruction.Bytes.Count).ToArray()));
            Assert.That(instruction.Text, Is.Not.Empty);
            end += (ulong)instruction.Bytes.Count;
        }

        Assert.That(explanation.Instructions[0].IsHere, Is.True);
        Assert.That(end, Is.EqualTo(function.Start + function.Size));
        Assert.That(explanation.Instructions.Select(instruction => instruction.Text), Has.Some.EqualTo("jmp one_last"));
    }

    [Test]
    public void As_many_instructions_are_shown_as_were_asked_for()
    {
        using var image = NativeSymbols.Open(Library, SymbolSettings.None);
        var function = image.FunctionAt(image.AddressOf("by_kind")!.Value)!.Value;
        var decoder = new CallDecoder();
        var all = decoder.Explain(image, function.Start, isReturnAddress: false, before: 0, after: 500)!.Instructions;

        var some = decoder.Explain(image, all[10].Address, isReturnAddress: false, before: 3, after: 4)!.Instructions;

        Assert.That(some.Select(instruction => instruction.Address), Is.EqualTo(all.Skip(7).Take(8).Select(one => one.Address)));
    }

    [Test]
    public void Names_are_those_of_the_source()
    {
        var library = Path.Combine(RepositoryPaths.NativeFixtures, "libcallbacks_cxx.so");
        if (!File.Exists(library))
        {
            Assert.Ignore("There was no C++ compiler when the fixtures were built.");
        }

        using var image = NativeSymbols.Open(library, SymbolSettings.None);
        var decoder = new CallDecoder();
        List<string> texts = [];
        for (ulong address = 0; address < 1 << 20; address++)
        {
            if (image.FunctionAt(address) is { Name: not null } function && function.Start == address)
            {
                texts.AddRange(
                    decoder.Explain(image, address, isReturnAddress: false, 0, 200)!.Instructions.Select(one => one.Text));
            }
        }

        Assert.That(texts, Has.Some.StartsWith("call "));
        Assert.That(texts, Has.None.Contains("_ZN"));
    }

    [Test]
    public void Address_within_an_instruction_is_no_return_address()
    {
        using var image = NativeSymbols.Open(Library, SymbolSettings.None);
        var function = image.FunctionAt(image.AddressOf("by_kind")!.Value)!.Value;
        var decoder = new CallDecoder();
        var wide = decoder.Explain(image, function.Start, isReturnAddress: false, 0, 500)!.Instructions.First(one => one.Bytes.Count > 3);

        Assert.That(decoder.Explain(image, wide.Address + 2, isReturnAddress: true, 3, 3), Is.Null);
        Assert.That(
            decoder.Explain(image, wide.Address + 2, isReturnAddress: false, 0, 0)!.Instructions.Single().Address,
            Is.EqualTo(wide.Address));
    }

    private static string Library => Path.Combine(RepositoryPaths.NativeFixtures, "libtail_calls.so");
}
