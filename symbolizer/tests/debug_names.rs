//! Where debug info has less than the name of a function, the symbol table completes it; where the
//! symbol table has nothing or belongs to another program, it does not.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::{address, ask_with, compile, functions, names, run, section, symbols};
use symbolizer::proto::SourceFunction;

/// Functions whose name without its scope says nothing.
const SCOPES: &str = "
    volatile unsigned long sink;
    namespace ns {
    struct Box {
        inline __attribute__((always_inline)) void inner(int n) { sink += n; }
        __attribute__((noinline)) void outer(int n) { inner(n); sink--; }
    };
    namespace { __attribute__((noinline)) void hidden(int n) { sink += n; } }
    }
    template <class F> __attribute__((noinline)) void call(F f) { f(1); }
    int main(int count, char **) {
        ns::Box box;
        box.outer(3);
        ns::hidden(count);
        auto first = [&](int n) __attribute__((noinline)) { sink += n + count; };
        auto second = [&](int n) __attribute__((noinline)) { sink -= n + count; };
        struct Local { __attribute__((noinline)) void run() { sink++; } } local;
        first(count);
        second(count);
        local.run();
        call([](int n) __attribute__((noinline)) { sink += n; });
        return 0;
    }";

#[test]
fn functions_of_c_plus_plus_have_their_scope() {
    let directory = tempfile::tempdir().unwrap();
    for compiler in
        ["g++ -O2 -g", "g++ -O1 -g1", "clang++ -O2 -gline-tables-only", "clang++ -O1 -g", "g++ -O2"]
    {
        let path = compile(directory.path(), "scopes", SCOPES, compiler);
        let text = section(&path, ".text");
        let all = names(&path, &text.collect::<Vec<_>>());
        for expected in ["ns::Box::outer", "ns::(anonymous namespace)::hidden", "main::Local::run"]
        {
            assert!(all.iter().any(|name| name == expected), "{compiler}: no {expected}: {all:?}");
        }
        // Compilers number lambdas in their own ways.
        let is_lambda = |name: &&String| {
            name.starts_with("main::") && name.trim_end_matches(" const").ends_with("::operator()")
        };
        let lambdas: BTreeSet<&String> = all.iter().filter(is_lambda).collect();
        assert_eq!(lambdas.len(), 3, "{compiler}: {lambdas:?}");
        for short in ["outer", "operator()", "hidden", "run"] {
            assert!(all.iter().all(|name| name != short), "{compiler}: {short}");
        }
    }
}

#[test]
fn functions_of_rust_have_their_path() {
    let directory = tempfile::tempdir().unwrap();
    let source = "
        mod work {
            pub struct W(pub u64);
            impl W {
                #[inline(never)]
                pub fn outer(&mut self, n: u64) {
                    for i in 0..n { self.0 = std::hint::black_box(self.0 ^ i); }
                }
            }
        }
        #[inline(never)]
        fn call(f: &dyn Fn(u64) -> u64) -> u64 { f(3) }
        fn main() {
            let mut w = work::W(1);
            w.outer(5);
            println!(\"{} {}\", w.0, call(&|n| std::hint::black_box(n) + 1));
        }";
    for options in ["-Cdebuginfo=line-tables-only", "-Cdebuginfo=1", "-g"] {
        for mangling in ["", " -Csymbol-mangling-version=v0"] {
            let compiler = format!("rustc -O {options}{mangling}");
            let path = compile(directory.path(), "rust", source, &compiler);
            let list = run("nm", "rust", directory.path());
            for (part, expected) in [("5outer", "rust::work::W::outer"), ("4call", "rust::call")] {
                let is_it = |line: &&str| line.contains(part) && line.contains("4rust");
                let line = list.lines().find(is_it).unwrap();
                let at = u64::from_str_radix(&line[..16], 16).unwrap();
                let name = common::name(&path, at + 1);
                let name = name.replace("<rust::work::W>", "rust::work::W");
                assert_eq!(name, expected, "{compiler}");
            }
        }
    }
}

#[test]
fn lines_and_inlined_functions_stay() {
    let directory = tempfile::tempdir().unwrap();
    let compiler = "g++ -O2 -g -fno-ipa-sra -fno-ipa-cp";
    let path = compile(directory.path(), "scopes", SCOPES, compiler);
    let outer = address(&path, "_ZN2ns3Box5outerEi");
    let chains = (outer..outer + 16).map(|at| functions(&path, at));
    let chain = chains.into_iter().find(|chain| chain.len() == 2).expect("one is inlined");
    let names: Vec<&str> = chain.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(names, ["ns::Box::inner", "ns::Box::outer"]);
    assert!(chain.iter().all(|f| f.line > 0 && f.file.ends_with("scopes.cc")), "{chain:?}");
    assert_eq!(chain[1].system_name, "_ZN2ns3Box5outerEi");
}

#[test]
fn functions_have_the_line_on_which_they_start() {
    let directory = tempfile::tempdir().unwrap();
    let whole = "-fno-ipa-sra -fno-ipa-cp";
    let dwarf_4 = format!("g++ -O2 -g -gdwarf-4 {whole}");
    let dwarf_5 = format!("g++ -O2 -g -gdwarf-5 {whole}");
    for compiler in [dwarf_4.as_str(), &dwarf_5, "clang++ -O2 -g", "g++ -O0 -g"] {
        let path = compile(directory.path(), "scopes", SCOPES, compiler);
        let outer = address(&path, "_ZN2ns3Box5outerEi");
        let chains = (outer..outer + 32).map(|at| functions(&path, at));
        let chain = chains.max_by_key(Vec::len).unwrap();
        assert_eq!(chain.len(), 2, "{compiler}: {chain:?}");
        for (function, declaration) in chain.iter().zip(["void inner(", "void outer("]) {
            let line = SCOPES.lines().nth(function.start_line as usize - 1).unwrap();
            assert!(line.contains(declaration), "{compiler}: {function:?}");
        }
    }
    // A declaration in another file than the code, whose line would be one of the wrong file.
    let source = "
        volatile int s;
        #line 100 \"declared.h\"
        __attribute__((noinline)) void moved(int n)
        #line 7 \"program.c\"
        { s -= n; }
        int main(int count, char **arguments) { moved(count); return 0; }";
    let path = compile(directory.path(), "program", source, "gcc -O2 -g");
    let function = &functions(&path, address(&path, "moved"))[0];
    let expected = (function.file.ends_with("program.c"), function.start_line);
    assert!([(true, 0), (false, 100)].contains(&expected), "{function:?}");
}

#[test]
fn a_part_of_a_function_has_the_name_of_the_function() {
    let directory = tempfile::tempdir().unwrap();
    let source = "
        volatile int s;
        __attribute__((noinline, cold)) void fail(int n) { s -= n; }
        __attribute__((noinline)) void splits(int n) {
            if (n > 5) { fail(n); fail(n + 1); }
            s += n;
        }
        int main(int count, char **arguments) { splits(count); return 0; }";
    let path = compile(directory.path(), "program", source, "gcc -O2 -g");
    let function = &functions(&path, address(&path, "splits.cold"))[0];
    let SourceFunction { name, system_name, .. } = function;
    assert_eq!((name.as_str(), system_name.as_str()), ("splits", "splits.cold"));
    assert!(function.line > 0);
}

/// Where debug info of a build ID is installed, removed at the end.
struct Installed(PathBuf);

impl Installed {
    /// Copies a debug file to where the build ID of a program leads.
    fn new(program: &Path, debug_file: &Path) -> (Self, Vec<u8>) {
        let notes = run("readelf", "-n program", program.parent().unwrap());
        let id = notes.split("Build ID: ").nth(1).unwrap().split_whitespace().next().unwrap();
        let path = Path::new("/usr/lib/debug/.build-id").join(&id[..2]);
        fs::create_dir_all(&path).unwrap();
        let path = path.join(format!("{}.debug", &id[2..]));
        fs::copy(debug_file, &path).unwrap();
        let bytes = (0..id.len()).step_by(2);
        let bytes = bytes.map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap()).collect();
        (Self(path), bytes)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        let _ = fs::remove_dir(self.0.parent().unwrap()); // only if it is empty
    }
}

/// A program with a build ID of its own: that of the process and the number.
fn unique(directory: &Path, name: &str, number: u32) -> PathBuf {
    let source = format!(
        "volatile unsigned long sink;
        static inline __attribute__((always_inline)) void inner(long n) {{ sink += n + {id}; }}
        __attribute__((noinline)) void outer_{name}(long n) {{ inner(n); sink--; }}
        int main(void) {{ outer_{name}(5); return 0; }}",
        id = std::process::id() * 10 + number
    );
    compile(directory, name, &source, "gcc -O2 -g -Wl,--build-id")
}

#[test]
fn a_debug_file_of_another_program_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let program = unique(directory.path(), "program", 1);
    let other = unique(directory.path(), "other", 2);
    for (debug_file, expected) in [(&other, "inner"), (&program, "inner")] {
        let (_installed, build_id) = Installed::new(&program, debug_file);
        let at = address(&program, "outer_program");
        let response = ask_with(&program, &[at, at + 4], |request| request.build_id = build_id);
        assert_eq!(response.error, "");
        for symbol in &response.symbols {
            assert_eq!(symbol.functions.last().unwrap().name, "outer_program");
            assert!(symbol.functions.len() == 1 || symbol.functions[0].name == expected);
        }
    }
    // Stripped, there is nothing but the other's.
    let at = address(&program, "outer_program");
    run("strip", "program", directory.path());
    let (_installed, build_id) = Installed::new(&program, &other);
    let response = ask_with(&program, &[at], |request| request.build_id = build_id);
    assert!(response.symbols[0].functions.is_empty(), "{response:?}");
}

#[test]
fn a_debug_file_without_its_alternate_file_has_the_names_of_its_symbol_table() {
    let directory = tempfile::tempdir().unwrap();
    let (program, _) =
        (unique(directory.path(), "program", 3), unique(directory.path(), "second", 4));
    let at = ["outer_program", "main"].map(|function| address(&program, function));
    for name in ["program", "second"] {
        run("objcopy", &format!("--only-keep-debug {name} {name}.debug"), directory.path());
    }
    run("strip", "program", directory.path());
    run("dwz", "-m alternate program.debug second.debug", directory.path());
    fs::remove_file(directory.path().join("alternate")).unwrap();
    let (_installed, build_id) = Installed::new(&program, &directory.path().join("program.debug"));
    let response = ask_with(&program, &at, |request| request.build_id = build_id);
    for (symbol, expected) in response.symbols.iter().zip(["outer_program", "main"]) {
        let names: Vec<&str> = symbol.functions.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names.last(), Some(&expected));
        assert!(names.iter().all(|name| !name.is_empty()), "{names:?}");
    }
    assert_eq!(symbols(&program, &at).len(), 2, "without the debug file there is no name");
}
