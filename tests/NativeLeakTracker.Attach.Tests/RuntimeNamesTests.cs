namespace NativeLeaks.Attach.Tests;

/// <summary>Spellings of the runtime that the target's own situations do not bring about, and some that no runtime writes.</summary>
[TestFixture]
public sealed class RuntimeNamesTests
{
    [TestCase("A.B..ctor()", ".ctor", "A.B.ctor()")]
    [TestCase(
        "A.Map`2[[System.String, X],[A.List`1[[System.Int32, X]], Y]].Add(System.String)", "Add",
        "A.Map<String, List<Int32>>.Add(String)")]
    [TestCase("A.B.System.Collections.Generic.IEnumerable<T>.Get()", "System.Collections.Generic.IEnumerable<T>.Get", "A.B.System.Collections.Generic.IEnumerable<T>.Get()")]
    [TestCase("A.<<Main>$>d__0.MoveNext()", "MoveNext", "A.<<Main>$>d__0.MoveNext()")]
    [TestCase("A.B.C(D[,,] ByRef, E**)", "C", "A.B.C(D[,,]&, E**)")]
    public void Spelling_of_the_DAC(string signature, string name, string expected) =>
        Assert.That(RuntimeNames.FromDac(signature, name), Is.EqualTo(expected));

    [TestCase("A.B`1[C.D]", "E", "instance void  (!0,class X.Y`1<!0>[],value class Z&)", "A.B<D>.E(D, Y<D>[], Z&)")]
    [TestCase("", "<Main>$", "void  (class System.String[])", "<Main>$(String[])")]
    [TestCase("A", "B", "generic !!0  (!!0,!!1[])", "A.B<?>(?, ?[])")]
    [TestCase("A", "B", "void  (unsigned int,int,unsigned int64*,wchar,float32)", "A.B(UIntPtr, IntPtr, UInt64*, Char, Single)")]
    [TestCase("A", "B", "void  ()", "A.B()")]
    [TestCase("A", "B", "", "A.B")]
    public void Spelling_of_events(string type, string name, string signature, string expected) =>
        Assert.That(RuntimeNames.FromEvent(type, name, signature), Is.EqualTo(expected));

    [Test]
    public void Text_that_no_runtime_writes_gives_some_name_and_no_exception()
    {
        var random = new Random(1);
        const string Letters = "AB`1+.<>[],()!& *2/ classunsigned";
        for (int i = 0; i < 200_000; i++)
        {
            string[] text = [.. Enumerable.Range(0, 3).Select(_ => Some(random, Letters))];
            Assert.That(RuntimeNames.FromDac($"{text[0]}.{text[1]}({text[2]}", text[1]), Is.Not.Null);
            Assert.That(RuntimeNames.FromEvent(text[0], text[1], $"void  ({text[2]}"), Is.Not.Null);
        }
    }

    [TestCase("[[", 100_000)]
    [TestCase("<", 100_000)]
    [TestCase("A<", 1000)]
    [TestCase("A[", 1000)]
    public void Nesting_without_end_is_cut(string part, int times)
    {
        string text = string.Concat(Enumerable.Repeat(part, times));

        Assert.That(RuntimeNames.FromDac($"{text}.M({text})", "M").Length, Is.LessThan(10_000));
        Assert.That(RuntimeNames.FromEvent(text, "M", $"void  ({text})").Length, Is.LessThan(10_000));
    }

    private static string Some(Random random, string letters) =>
        string.Create(random.Next(40), (random, letters), static (span, state) =>
        {
            foreach (ref char c in span)
            {
                c = state.letters[state.random.Next(state.letters.Length)];
            }
        });
}
