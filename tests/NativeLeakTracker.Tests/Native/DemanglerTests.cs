using System.Diagnostics;
using System.Text;
using NativeLeaks.Symbols.Native;

namespace NativeLeaks.Tests.Native;

/// <summary>Names as their source has them: those that binutils' c++filt prints, and no harm from names made to do some.</summary>
[TestFixture]
public sealed class DemanglerTests
{
    private const string CxxSource = """
        #include <functional>
        #include <map>
        #include <memory>
        #include <string>
        #include <vector>
        namespace outer {
        template <typename... T> __attribute__((noinline)) std::size_t count(T&&... values) { return (sizeof(values) + ... + 0); }
        template <typename K, int N> struct Table { __attribute__((noinline)) void put(K key, int (&row)[N]) { map[key] = row; } std::map<K, int*> map; };
        struct Base { virtual ~Base(); virtual int operator()(const char*, ...) const; explicit operator bool() const; };
        Base::~Base() {}
        int Base::operator()(const char*, ...) const { return 1; }
        Base::operator bool() const { return true; }
        }
        namespace { __attribute__((noinline, used)) int hidden(std::function<void(std::string)> f) { f("x"); return 1; } }
        int use(std::unique_ptr<outer::Base> p, int row[3]) {
            outer::Table<std::string, 3> table;
            int local[3] = {};
            table.put("a", local);
            auto lambda = [&](auto x) { return hidden([=](std::string) { (void)x; }); };
            return lambda(1) + lambda(std::vector<int>{}) + (int)outer::count(row, 1.0, "abc", p.get());
        }
        """;

    private const string RustSource = """
        #![crate_type = "dylib"]
        use std::fmt::{Debug, Display};
        pub struct Leaker<T, const N: usize> { rows: [T; N] }
        impl<T: Debug, const N: usize> Leaker<T, N> {
            #[inline(never)] pub fn grow(&self, extra: &dyn Fn(&T) -> String) -> Vec<String> { self.rows.iter().map(|r| extra(r)).collect() }
        }
        pub trait Shape { fn area(&self, scale: f64) -> f64; }
        impl<T> Shape for Leaker<T, 4> { #[inline(never)] fn area(&self, scale: f64) -> f64 { scale * 4.0 } }
        impl Shape for (u8, &'static [char]) { #[inline(never)] fn area(&self, scale: f64) -> f64 { scale } }
        pub struct Flag<const B: bool, const C: char, const I: i32>;
        impl<const B: bool, const C: char, const I: i32> Flag<B, C, I> { #[inline(never)] pub fn show(&self) -> String { format!("{B}{C}{I}") } }
        #[inline(never)] fn apply<F: FnOnce(u32) -> u32>(f: F) -> u32 { f(7) }
        #[inline(never)] fn takes(_: for<'a> fn(&'a str, *const u8) -> &'a str, _: unsafe extern "C" fn(i64), _: Box<dyn Display + Send>) {}
        #[inline(never)] fn generic<T: ?Sized>() -> usize { std::any::type_name::<T>().len() }
        unsafe extern "C" fn foreign(_: i64) {}
        pub mod größe { #[inline(never)] pub fn übergröße() -> u32 { super::apply(|x| { let y = move |z: u32| z + x; super::apply(y) }) } }
        #[unsafe(no_mangle)] pub fn entry() -> usize {
            let l = Leaker { rows: [1u16, 2, 3, 4] };
            takes(|s, _| s, foreign, Box::new(1));
            l.grow(&|x| format!("{x:?}")).len() + l.area(1.0) as usize + (1u8, &['a'][..]).area(2.0) as usize
                + Flag::<true, 'x', -5>.show().len() + Flag::<false, '\n', 0x7fffffff>.show().len() + größe::übergröße() as usize
                + generic::<dyn for<'a> Fn(&'a str, &mut [u8; 3]) -> (i128,)>() + generic::<for<'a, 'b> fn(&'a u8, &'b i8) -> !>()
                + generic::<dyn Iterator<Item = &'static str> + Sync>() + generic::<unsafe extern "C" fn(*mut f32, ...)>()
                + generic::<(bool, (), [[f64; 2]; 3])>() + generic::<extern "C-unwind" fn()>()
        }
        """;

    [TestCase("malloc", "malloc")]
    [TestCase("", "")]
    [TestCase("_", "_")]
    [TestCase("_Z", "_Z")]
    [TestCase("_R", "_R")]
    [TestCase("_Zebra", "_Zebra")]
    [TestCase("_Reset", "_Reset")]
    [TestCase("sqlite3_open.cold", "sqlite3_open.cold")]
    [TestCase("_Z3foov", "foo()")]
    [TestCase("_ZN3foo3barEv.cold", "foo::bar() [clone .cold]")]
    [TestCase("_ZN3foo3barEv.constprop.0.isra.0.cold", "foo::bar() [clone .constprop.0] [clone .isra.0] [clone .cold]")]
    [TestCase("_ZN3foo3barEv.part.1", "foo::bar() [clone .part.1]")]
    [TestCase("_ZN3foo3barEv.lto_priv.0", "foo::bar() [clone .lto_priv.0]")]
    [TestCase("_ZN3foo3barEv.llvm.1234", "foo::bar() [clone .llvm.1234]")]
    [TestCase("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back(int const&)")]
    [TestCase("_ZThn16_N1A1fEv", "non-virtual thunk to A::f()")]
    [TestCase("_ZGVZ3foovE1x", "guard variable for foo()::x")]
    public void Cxx_names_are_those_of_the_source(string mangled, string name) =>
        Assert.That(Demangler.Demangle(mangled), Is.EqualTo(name));

    [TestCase("_ZN3std2rt10lang_start17h0123456789abcdefE", "std::rt::lang_start")]
    [TestCase("_ZN3std2rt10lang_start17h0123456789abcdefE.llvm.123", "std::rt::lang_start")]
    [TestCase("_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$3bar17h0123456789abcdefE",
        "<Test + 'static as foo::Bar<Test>>::bar")]
    [TestCase("_ZN4core3ptr42drop_in_place$LT$alloc..string..String$GT$17h60a8b0d7a1b2c3d4E",
        "core::ptr::drop_in_place<alloc::string::String>")]
    [TestCase("_ZN4test4main28_$u7b$$u7b$closure$u7d$$u7d$17h60a8b0d7a1b2c3d4E", "test::main::{{closure}}")]
    public void Older_Rust_names_are_those_of_the_source(string mangled, string name) =>
        Assert.That(Demangler.Demangle(mangled), Is.EqualTo(name));

    [TestCase("_RNvC6_123foo3bar", "123foo::bar")]
    [TestCase("_RNvC6_123foo3bar.llvm.A5310EB9", "123foo::bar")]
    [TestCase("_RNvNtNtCsjrHSEGnQ3l9_3std2io5stdio5print", "std::io::stdio::print")]
    [TestCase("_RNvMs_C4demoNtB4_6Leaker4grow", "<demo::Leaker>::grow")]
    [TestCase("_RNvXC4demohNtB2_5Shape4area", "<u8 as demo::Shape>::area")]
    [TestCase("_RNvYhNtC4demo5Shape4area", "<u8 as demo::Shape>::area")]
    [TestCase("_RINvC4demo1fAhj10_E", "demo::f::<[u8; 16]>")]
    [TestCase("_RINvC4demo1fKj0_E", "demo::f::<0>")]
    [TestCase("_RINvC4demo1fKln5_Kb1_Kc41_E", "demo::f::<-5, true, 'A'>")]
    [TestCase("_RINvC4demo1fKc27_Kc2202_E", "demo::f::<'\\'', '∂'>")]
    [TestCase("_RINvC4demo1fKoffffffffffffffffff_E", "demo::f::<0xffffffffffffffffff>")]
    [TestCase("_RINvC4demo1fTEThETheEE", "demo::f::<(), (u8,), (u8, str)>")]
    [TestCase("_RINvC4demo1fRL_eQhPzOuSdE", "demo::f::<&str, &mut u8, *const !, *mut (), [f64]>")]
    [TestCase("_RINvC4demo1fFUKChEuFEhE", "demo::f::<unsafe extern \"C\" fn(u8), fn() -> u8>")]
    [TestCase("_RINvC4demo1fFG_RL0_eEBd_E", "demo::f::<for<'a> fn(&'a str) -> &'a str>")]
    [TestCase("_RINvC4demo1fDNtNtC4core3fmt5DebugNtBd_4SendEL_E", "demo::f::<dyn core::fmt::Debug + core::fmt::Send>")]
    [TestCase("_RINvC4demo1fDNtC4core8Iteratorp4ItemhEL_E", "demo::f::<dyn core::Iterator<Item = u8>>")]
    [TestCase("_RINvC4demo1fDINtC4core2FnThEEp6OutputuEL_E", "demo::f::<dyn core::Fn<(u8,), Output = ()>>")]
    [TestCase("_RNCNvC4demo4main0", "demo::main::{closure#0}")]
    [TestCase("_RNCNvC4demo4mains0_0", "demo::main::{closure#2}")]
    [TestCase("_RNSNvYhNtC4core2Fn4call6vtable", "<u8 as core::Fn>::call::{shim:vtable#0}")]
    [TestCase("_RNqCs4fqI2P2rA04_11utf8_identsu30____7hkackfecea1cbdathfdh9hlq6y", "utf8_idents::საჭმელად_გემრიელი_სადილი")]
    [TestCase("_RINvC4demo3fooKRe616263_E", "demo::foo::<\"abc\">")]
    [TestCase("_RINvC4demo3fooKe7b5c7d_E", "demo::foo::<{*\"{\\\\}\"}>")]
    [TestCase("_RINvC4demo3fooKRAj1_j2_EE", "demo::foo::<{&[1, 2]}>")]
    [TestCase("_RINvC4demo3fooKTj1_b0_EE", "demo::foo::<{(1, false)}>")]
    [TestCase("_RINvC4demo3fooKVNtNtC4core6option6OptionUE", "demo::foo::<{core::option::Option}>")]
    [TestCase("_RINvC4demo3fooKVNvNtC4core3Opt4SomeTj5_EE", "demo::foo::<{core::Opt::Some(5)}>")]
    [TestCase("_RINvC4demo3fooKVNtC4demo3BarS1sRe616263_2chc78_EE",
        "demo::foo::<{demo::Bar { s: \"abc\", ch: 'x' }}>")]
    [TestCase("_RINvC4demo3fooKVNtC4demo3BarS1sRe616263_2chc78_5smallT_EE", null, Description = "a type where a constant must be")]
    [TestCase("_RINvC4demo3fooKVNtC4demo3BarS1xj5_1yb1_EE", "demo::foo::<{demo::Bar { x: 5, y: true }}>")]
    public void Newer_Rust_names_are_those_of_the_source(string mangled, string? name) =>
        Assert.That(Demangler.Demangle(mangled), Is.EqualTo(name ?? mangled));

    [Test]
    public void Every_name_of_the_Cxx_runtime_is_that_of_binutils()
    {
        var library = Process.GetCurrentProcess().Modules.Cast<ProcessModule>()
            .Single(module => module.FileName.Contains("/libstdc++.so", StringComparison.Ordinal)).FileName;

        AssertLikeBinutils(Names("nm", "-D", "--defined-only", "--without-symbol-versions", library), atLeast: 4_000, mayStay: 0);
    }

    [Test]
    public void Every_name_of_a_Cxx_library_is_that_of_binutils()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder.File("demo.cpp"), CxxSource);
        RunOrIgnore("g++", "-std=c++17", "-O2", "-fPIC", "-shared", folder.File("demo.cpp"), "-o", folder.File("libdemo.so"));

        AssertLikeBinutils(Names("nm", "--without-symbol-versions", folder.File("libdemo.so")), atLeast: 30, mayStay: 0);
    }

    [TestCase("v0")]
    [TestCase("legacy")]
    public void Every_name_of_a_Rust_library_is_that_of_binutils(string mangling)
    {
        using var folder = new TemporaryFolder();
        // binutils leaves characters beyond ASCII of the older names as they are.
        File.WriteAllText(folder.File("demo.rs"), mangling == "v0" ? RustSource : RustSource.Replace('ö', 'o').Replace('ü', 'u').Replace('ß', 's'));
        RunOrIgnore(
            "rustc", "--edition=2021", "-O", "-Z", "unstable-options", "-C", $"symbol-mangling-version={mangling}",
            "-C", "prefer-dynamic=no", folder.File("demo.rs"), "-o", folder.File("libdemo.so"));

        AssertLikeBinutils(Names("nm", "--without-symbol-versions", folder.File("libdemo.so")), atLeast: 500, mayStay: 0);
    }

    // Halves, doubles and swaps parts of real names: most are nonsense, some are valid and say something else.
    [Test]
    public void No_mutation_of_a_name_does_harm()
    {
        string[] seeds = [.. SeedNames()];
        var random = new Random(20_260_201);
        var read = 0;
        for (var round = 0; round < 60_000; round++)
        {
            StringBuilder name = new(seeds[random.Next(seeds.Length)]);
            for (var count = random.Next(1, 6); count > 0 && name.Length > 4; count--)
            {
                Mutate(name, seeds, random);
            }

            read += AssertHarmless(name.ToString()) ? 1 : 0;
        }

        Assert.That(read, Is.GreaterThan(1_000), "hardly a mutation was a name");
    }

    public static IEnumerable<string> HostileNames =>
    [
        "_Z1f" + new string('P', 1_900) + "i",
        "_Z1f" + string.Concat(Enumerable.Repeat("PF", 900)) + "v",
        "_Z1f" + string.Concat(Enumerable.Repeat("N1aI", 450)),
        "_Z1f" + string.Concat(Enumerable.Repeat("1aI", 480)) + "i" + new string('E', 480),
        "_Z1fI" + new string('J', 950) + new string('E', 950) + "Evv",
        "_Z1fIX" + string.Concat(Enumerable.Repeat("ng", 900)) + "Li1EEEvv",
        "_Z" + string.Concat(Enumerable.Repeat("Z1f", 400)) + "v" + string.Concat(Enumerable.Repeat("E1gv", 100)),
        "_Z1f" + new string('A', 1_000) + string.Concat(Enumerable.Repeat("_", 900)) + "i",
        // Each S refers to the pair before it: the parts double.
        "_Z1f1AIiE" + string.Concat(Enumerable.Range(0, 17).Select(level => $"S_I{Seq(level)}{Seq(level)}E")),
        "_Z1f1AIiE" + string.Concat(Enumerable.Range(0, 200).Select(level => $"S_I{Seq(level)}{Seq(level)}E")),
        "_Z1fIJ" + new string('i', 300) + "EEv" + string.Concat(Enumerable.Repeat("DpPF", 200)) + "T_",
        "_Z1fIJ" + new string('i', 1_000) + "EEvDp1AIJDp1BIT_T_EEE",
        "_RNvC" + new string('9', 300),
        "_R" + string.Concat(Enumerable.Repeat("INvC1a1b", 240)) + new string('E', 1),
        "_RINvC1a1b" + new string('R', 1_900) + "hE",
        "_RMC0" + new string('T', 1_000) + new string('E', 900),
        // Types that refer to themselves, to each other, and to pairs of pairs.
        "_RMC0TB2_E",
        "_RINvC1a1bB_E",
        "_RINvC1a1b" + "TTTTTTTTTTThBc_EBb_EBa_EB9_EB8_EB7_EB6_EB5_EB4_EE",
        "_RMC0T" + string.Concat(Enumerable.Range(0, 400).Select(level => level == 0 ? "Thh E".Replace(" ", "", StringComparison.Ordinal) : "TB4_B4_E")) + "E",
        "_RINvC1a1bFG" + new string('z', 10) + "_hEuE",
        "_RINvC1a1bKjzzzz_E",
        "_RINvC1a1bKe" + new string('6', 1_900) + "_E",
        "_RINvC1a1bKo" + new string('f', 1_900) + "_E",
        "_RNvC1au900_" + new string('a', 900) + new string('z', 900),
        "_ZN" + new string('9', 1_900) + "E",
        "_ZN4a$$$17h0123456789abcdefE",
        "_ZN10_$uffffff$17h0123456789abcdefE",
        "_Z3foo\0bar",
        "_Z3fooßv",
        "_Z" + new string('S', 1_000),
        "_R" + new string('B', 1_000) + "_",
    ];

    // A small stack: reports are also made on threads that a program gave no more to.
    [TestCaseSource(nameof(HostileNames))]
    public void No_name_made_to_cost_time_or_stack_does_harm(string name)
    {
        Exception? failure = null;
        var thread = new Thread(
            () =>
            {
                try
                {
                    AssertHarmless(name);
                }
                catch (Exception e)
                {
                    failure = e;
                }
            },
            512 * 1024);
        thread.Start();

        Assert.That(thread.Join(TimeSpan.FromSeconds(30)), Is.True, "demangling hangs");
        Assert.That(failure, Is.Null);
    }

    [Test]
    public void References_that_double_are_cut_by_work_not_by_patience()
    {
        // Each tuple holds the one before it twice: forty of them stand for a million millions.
        StringBuilder name = new("_RINvC1a1b");
        var before = name.Length - 2;
        name.Append("ThhE");
        for (var level = 0; level < 40; level++)
        {
            var here = name.Length - 2;
            name.Append("TB").Append(Base62(before)).Append('B').Append(Base62(before)).Append('E');
            before = here;
        }

        name.Append('E');

        Assert.That(Demangler.Demangle(name.ToString()), Is.EqualTo(name.ToString()));
    }

    [Test]
    public void Names_too_long_to_be_read_stay_as_they_are()
    {
        var name = "_Z" + 2_500 + new string('a', 2_500) + "v";

        Assert.That(Demangler.Demangle(name), Is.SameAs(name));
    }

    private static string Base62(int value)
    {
        if (value == 0)
        {
            return "_";
        }

        const string Digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        var text = "_";
        value--;
        do
        {
            text = Digits[value % 62] + text;
            value /= 62;
        }
        while (value > 0);
        return text;
    }

    private static string Seq(int index) =>
        index == 0 ? "S_" : "S" + ((index - 1) % 36 < 10 ? (char)('0' + ((index - 1) % 36)) : (char)('A' + ((index - 1) % 36) - 10)) + "_";

    private static IEnumerable<string> SeedNames() =>
        Names("nm", "-D", "--defined-only", "--without-symbol-versions", LibStdCxx).Where((_, index) => index % 20 == 0).Concat(
            typeof(DemanglerTests).GetMethods()
                .SelectMany(method => method.GetCustomAttributes(typeof(TestCaseAttribute), false).Cast<TestCaseAttribute>())
                .Select(test => test.Arguments[0])
                .OfType<string>()
                .Where(name => name.Length > 8));

    private static string LibStdCxx =>
        Process.GetCurrentProcess().Modules.Cast<ProcessModule>()
            .First(module => module.FileName.Contains("/libstdc++.so", StringComparison.Ordinal)).FileName;

    private static void Mutate(StringBuilder name, string[] seeds, Random random)
    {
        const string Letters = "_RZNIESTBCDFKLMPQXYJABbhijGpsu0123456789vcdnwx$.";
        var at = random.Next(2, name.Length);
        switch (random.Next(5))
        {
            case 0:
                name[at] = Letters[random.Next(Letters.Length)];
                break;
            case 1:
                name.Remove(at, Math.Min(random.Next(1, 8), name.Length - at));
                break;
            case 2:
                name.Insert(at, Letters[random.Next(Letters.Length)]);
                break;
            case 3:
                name.Insert(at, name.ToString(at, Math.Min(random.Next(1, 30), name.Length - at)));
                break;
            default:
                var other = seeds[random.Next(seeds.Length)];
                var from = random.Next(other.Length);
                name.Insert(at, other.AsSpan(from, Math.Min(random.Next(1, 20), other.Length - from)));
                break;
        }
    }

    /// <summary>Neither throws nor prints without end, and costs no more memory than a few names.</summary>
    private static bool AssertHarmless(string mangled)
    {
        var before = GC.GetAllocatedBytesForCurrentThread();
        var name = Demangler.Demangle(mangled);
        var allocated = GC.GetAllocatedBytesForCurrentThread() - before;

        AssertBound(mangled, name);
        Assert.That(name, Has.Length.LessThanOrEqualTo(Math.Max(mangled.Length, Demangler.MaxDemangledLength)));
        Assert.That(allocated, Is.LessThan(16 * 1024 * 1024), mangled);
        return !ReferenceEquals(name, mangled);
    }

    // The bound is what keeps the C++ runtime from printing without end.
    private static void AssertBound(string mangled, string name)
    {
        if (mangled.StartsWith("_Z", StringComparison.Ordinal) && CxxNameCost.Of(mangled, 2_000_000) is { } bound)
        {
            Assert.That(name == mangled ? 0 : name.Length, Is.LessThanOrEqualTo(bound), mangled);
        }
    }

    private static void AssertLikeBinutils(List<string> names, int atLeast, double mayStay)
    {
        Assert.That(names, Has.Count.GreaterThan(atLeast));
        using var folder = new TemporaryFolder();
        File.WriteAllLines(folder.File("names"), names);
        var run = ChildProcess.Run("sh", ["-c", $"c++filt --no-verbose < '{folder.File("names")}'"]);
        Assert.That(run.ExitCode, Is.Zero, run.Error);
        var expected = run.Output.TrimEnd('\n').Split('\n');
        Assert.That(expected, Has.Length.EqualTo(names.Count));

        List<string> different = [];
        var stayed = 0;
        for (var index = 0; index < names.Count; index++)
        {
            var name = Demangler.Demangle(names[index]);
            AssertBound(names[index], expected[index]);
            stayed += name == names[index] && expected[index] != name ? 1 : 0;
            if (name != names[index] && name != expected[index])
            {
                different.Add($"{names[index]}\n  is       {name}\n  binutils {expected[index]}");
            }
        }

        TestContext.Out.WriteLine($"{names.Count} names, {stayed} stayed mangled");
        Assert.That(different, Is.Empty);
        Assert.That(stayed, Is.LessThanOrEqualTo(names.Count * mayStay));
    }

    private static List<string> Names(string program, params string[] options)
    {
        var run = ChildProcess.Run(program, options);
        Assert.That(run.ExitCode, Is.Zero, run.Error);
        return
        [
            .. run.Output.Split('\n')
                .Select(line => line.Split(' ')[^1])
                .Where(name => name.StartsWith("_Z", StringComparison.Ordinal) || name.StartsWith("_R", StringComparison.Ordinal))
                .Distinct(),
        ];
    }

    // The names of these languages in the fixed tables are tested everywhere; whole libraries where there is a compiler.
    private static void RunOrIgnore(string compiler, params string[] options)
    {
        if (!Works(compiler))
        {
            Assert.Ignore($"There is no {compiler} that works here.");
        }

        var run = ChildProcess.Run(compiler, options, ("RUSTC_BOOTSTRAP", "1"));
        Assert.That(run.ExitCode, Is.Zero, run.Error);
    }

    // One that is there may have no toolchain behind it.
    private static bool Works(string compiler)
    {
        try
        {
            return ChildProcess.Run(compiler, ["--version"]).ExitCode == 0;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return false;
        }
    }
}
