//! The debug info of a file is read however it is stored, and no other file than its own.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{address, ask, compile, functions, run, section, succeed, symbols};
use symbolizer::proto::SourceFunction;

const INLINED: &str = "
    volatile unsigned long sink;
    static inline __attribute__((always_inline)) void inner(long n) { sink += n; }
    __attribute__((noinline)) void outer(long n) { inner(n); sink--; }
    int main(void) { outer(5); return 0; }";

/// Returns the names of the functions at the start of `outer`, innermost first.
fn chain(program: &Path) -> Vec<String> {
    let chains = (0..16).map(|into| functions(program, address(program, "outer") + into));
    let chain = chains.max_by_key(Vec::len).unwrap();
    assert!(chain.iter().all(|function| function.line > 0), "{chain:?}");
    chain.into_iter().map(|function| function.name).collect()
}

#[test]
fn compressed_debug_info_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "program", INLINED, "gcc -O2 -g");
    for way in ["zlib", "zlib-gnu", "zstd"] {
        let path = directory.path().join("compressed");
        let options = format!("--compress-debug-sections={way} program compressed");
        run("objcopy", &options, directory.path());
        let name = if way == "zlib-gnu" { ".zdebug_info" } else { ".debug_info" };
        let list = run("readelf", "-SW compressed", directory.path());
        assert!(list.contains(name), "{way}: {list}");
        assert_eq!(chain(&path), ["inner", "outer"], "{way}");
    }
    assert_eq!(chain(&program), ["inner", "outer"]);
}

#[test]
fn a_file_with_a_link_has_its_own_debug_info() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "program", INLINED, "gcc -O2 -g");
    run("objcopy", "--only-keep-debug program linked.debug", directory.path());
    run("objcopy", "--add-gnu-debuglink=linked.debug program linked", directory.path());
    let linked = directory.path().join("linked");
    assert_eq!(chain(&linked), ["inner", "outer"]);
    // The file that it names is another now, or none.
    std::fs::write(directory.path().join("linked.debug"), "no ELF file").unwrap();
    assert_eq!(chain(&linked), ["inner", "outer"]);
    std::fs::remove_file(directory.path().join("linked.debug")).unwrap();
    assert_eq!(chain(&linked), ["inner", "outer"]);
    assert_eq!(chain(&program), ["inner", "outer"]);
}

#[test]
fn split_debug_info_has_lines_and_the_names_of_the_symbol_table() {
    let directory = tempfile::tempdir().unwrap();
    let options = "gcc -O2 -g -gsplit-dwarf";
    let program = compile(directory.path(), "program", INLINED, options);
    let response = ask(&program, &[address(&program, "outer")]);
    assert_eq!(response.error, "");
    let function = response.symbols[0].functions.last().unwrap();
    assert!(function.name == "outer" && function.line > 0, "{response:?}");
}

/// Functions that are inlined in each other, from headers and templates.
const TEMPLATES: &str = "
    #include <algorithm>
    #include <map>
    #include <string>
    #include <vector>
    namespace app {
    struct Table {
        std::map<std::string, std::vector<int>> rows;
        int add(const std::string &key, int value) {
            auto &row = rows[key];
            row.push_back(value);
            std::sort(row.begin(), row.end(), [](int a, int b) { return a > b; });
            return row.front();
        }
    };
    template <class T> T total(const std::vector<T> &all) {
        T sum = 0;
        for (const auto &one : all)
            sum += one;
        return sum;
    }
    }
    int main(int count, char **words) {
        app::Table table;
        for (int i = 0; i < count; i++)
            table.add(words[i], i);
        return app::total(table.rows[words[0]]);
    }";

/// Returns the functions at addresses by llvm-symbolizer: name for the linker, file and line.
fn by_llvm(program: &Path, addresses: &[u64]) -> Vec<Vec<(String, String, u32)>> {
    let mut command = Command::new("llvm-symbolizer");
    command.args(["--no-demangle", "--output-style=LLVM", "--relative-address", "--obj"]);
    command.arg(program).args(addresses.iter().map(|address| format!("{address:#x}")));
    let text = succeed(&mut command);
    let of_address = |lines: &str| {
        let lines: Vec<&str> = lines.lines().collect();
        let function = |two: &[&str]| {
            let mut place = two[1].rsplitn(3, ':');
            let line = place.nth(1).unwrap().parse().unwrap();
            named(two[0], place.next().unwrap(), line)
        };
        lines.chunks_exact(2).map(function).collect()
    };
    text.trim_end().split("\n\n").map(of_address).collect()
}

#[test]
fn functions_and_lines_are_those_of_llvm_symbolizer() {
    let directory = tempfile::tempdir().unwrap();
    for compiler in ["g++ -O2 -g", "clang++ -O2 -g", "clang++ -O1 -gdwarf-4", "g++ -O2 -g1"] {
        let path = compile(directory.path(), "templates", TEMPLATES, compiler);
        let addresses: Vec<u64> = section(&path, ".text").step_by(7).collect();
        let ours = symbols(&path, &addresses);
        let (mut all, mut different) = (0, Vec::new());
        for ((address, ours), llvm) in addresses.iter().zip(ours).zip(by_llvm(&path, &addresses)) {
            let ours: Vec<(String, String, u32)> =
                ours.functions.into_iter().map(system_name_and_place).collect();
            // Padding between functions has lines, and no function.
            if llvm.iter().any(|(name, _, _)| name == "??") {
                continue;
            }
            all += 1;
            if ours != llvm {
                different.push(format!("{address:#x}: {ours:?}, by LLVM {llvm:?}"));
            }
        }
        assert!(all > 200, "{compiler}: {all}");
        let few = different.iter().take(5).collect::<Vec<_>>();
        assert!(
            different.len() * 1000 <= all,
            "{compiler}: {} of {all}: {few:#?}",
            different.len()
        );
    }
}

fn system_name_and_place(function: SourceFunction) -> (String, String, u32) {
    named(&function.system_name, &function.file, function.line)
}

/// Returns a function with its file if it has a line: LLVM takes the file from the symbol table.
fn named(name: &str, file: &str, line: u32) -> (String, String, u32) {
    let file = if line == 0 { "" } else { file };
    (name.to_owned(), file.to_owned(), line)
}
