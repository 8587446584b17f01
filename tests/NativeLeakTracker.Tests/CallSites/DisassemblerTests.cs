using NativeLeaks.Symbols.CallSites;

namespace NativeLeaks.Tests.CallSites;

/// <summary>Machine code becomes instructions, whatever it is.</summary>
[TestFixture]
public sealed class DisassemblerTests
{
    [TestCase("e80b000000", nameof(InstructionFlow.Call), 0x1010UL)]
    [TestCase("67e80a000000", nameof(InstructionFlow.Call), 0x1010UL, Description = "as the linker relaxes call [slot]")]
    [TestCase("ff150a000000", nameof(InstructionFlow.IndirectCall), 0x1010UL)]
    [TestCase("ffd0", nameof(InstructionFlow.IndirectCall), 0UL)]
    [TestCase("ff5018", nameof(InstructionFlow.IndirectCall), 0UL)]
    [TestCase("43ff94e780000000", nameof(InstructionFlow.IndirectCall), 0UL)]
    [TestCase("3effd0", nameof(InstructionFlow.IndirectCall), 0UL)]
    [TestCase("e90b000000", nameof(InstructionFlow.Jump), 0x1010UL)]
    [TestCase("eb0e", nameof(InstructionFlow.Jump), 0x1010UL)]
    [TestCase("740e", nameof(InstructionFlow.ConditionalJump), 0x1010UL)]
    [TestCase("0f840a000000", nameof(InstructionFlow.ConditionalJump), 0x1010UL)]
    [TestCase("e30e", nameof(InstructionFlow.ConditionalJump), 0x1010UL)]
    [TestCase("e20e", nameof(InstructionFlow.ConditionalJump), 0x1010UL)]
    [TestCase("ff250a000000", nameof(InstructionFlow.IndirectJump), 0x1010UL)]
    [TestCase("f2ff250a000000", nameof(InstructionFlow.IndirectJump), 0x1011UL)]
    [TestCase("ffe0", nameof(InstructionFlow.IndirectJump), 0UL)]
    [TestCase("ff6018", nameof(InstructionFlow.IndirectJump), 0UL)]
    [TestCase("3effe0", nameof(InstructionFlow.TableJump), 0UL)]
    [TestCase("ff24c500200000", nameof(InstructionFlow.TableJump), 0UL)]
    [TestCase("c3", nameof(InstructionFlow.Return), 0UL)]
    [TestCase("f3c3", nameof(InstructionFlow.Return), 0UL)]
    [TestCase("0f05", nameof(InstructionFlow.Next), 0UL, Description = "a system call is no call")]
    [TestCase("f30f1efa", nameof(InstructionFlow.Next), 0UL)]
    [TestCase("0f0b", nameof(InstructionFlow.Next), 0UL)]
    [TestCase("06", nameof(InstructionFlow.Invalid), 0UL)]
    [TestCase("e800", nameof(InstructionFlow.Invalid), 0UL, Description = "cut short")]
    public void Instruction_goes_where_the_processor_goes(string code, string flow, ulong target)
    {
        var bytes = Convert.FromHexString(code);
        var decoded = Disassembler.Decode(bytes, 0x1000);

        Assert.That(decoded[0].Address, Is.EqualTo(0x1000));
        Assert.That(decoded[0].Flow.ToString(), Is.EqualTo(flow));
        Assert.That(decoded[0].Target, Is.EqualTo(target));
        Assert.That(decoded[^1].End, Is.EqualTo(0x1000 + (ulong)bytes.Length));
    }

    // movsxd rax, [rdx+rax*4]; add rax, rdx; jmp rax
    [TestCase("486304824801d0ffe0", nameof(InstructionFlow.TableJump))]
    [TestCase("48630482c7051000000001000000" + "4801d0ffe0", nameof(InstructionFlow.TableJump))]
    // The sum is another register's; no table was read; the table is read without an index.
    [TestCase("486304824801d0ffe1", nameof(InstructionFlow.IndirectJump))]
    [TestCase("4801d0ffe0", nameof(InstructionFlow.IndirectJump))]
    [TestCase("486300" + "4801d0ffe0", nameof(InstructionFlow.IndirectJump))]
    public void Jump_of_a_switch_is_known_by_its_table(string code, string flow) =>
        Assert.That(Disassembler.Decode(Convert.FromHexString(code), 0)[^1].Flow.ToString(), Is.EqualTo(flow));

    [Test]
    public void Any_bytes_are_decoded_to_their_end()
    {
        var random = new Random(20_260_401);
        for (var round = 0; round < 2_000; round++)
        {
            var code = new byte[random.Next(1, 300)];
            random.NextBytes(code);

            var decoded = Disassembler.Decode(code, ulong.MaxValue - 1_000);

            Assert.That(decoded.Sum(instruction => instruction.Length), Is.EqualTo(code.Length));
            Assert.That(Disassembler.Format(code, 0, static _ => null), Has.Length.EqualTo(decoded.Length));
        }
    }

    [Test]
    public void No_code_is_no_instructions()
    {
        Assert.That(Disassembler.Decode([], 0x1000), Is.Empty);
        Assert.That(Disassembler.Format([], 0x1000, static _ => null), Is.Empty);
    }
}
