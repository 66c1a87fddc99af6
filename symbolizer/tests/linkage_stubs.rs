//! The stubs by which programs call functions of libraries are named for these functions, whatever
//! linker made them.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::{compile, instructions, names, remove_section_headers, section};

const LIBRARY: &str = "void empty(void) {} void other(void) {}";
const PROGRAM: &str = "
    void empty(void); void other(void);
    volatile int k;
    int main(void) {
        for (int i = 0; i < 9; i++) { empty(); other(); }
        void (*volatile pointer)(void) = other;
        pointer();
        k++;
        return 0;
    }";
/// Sections of stubs.
const TABLES: [&str; 4] = [".plt", ".plt.sec", ".plt.got", ".iplt"];

/// Links the program in a way.
fn program(directory: &Path, compiler: &str) -> PathBuf {
    compile(directory, "libe.so", LIBRARY, "gcc -O1 -shared -fPIC");
    compile(
        directory,
        "program",
        PROGRAM,
        &format!("{compiler} -O1 -L. -Wl,--no-as-needed,-l:libe.so"),
    )
}

/// Returns the distinct names of all addresses of the stubs of a program; empty for none.
fn names_of_stubs(path: &Path) -> Vec<String> {
    let sections = TABLES.map(|table| section(path, table));
    let addresses: Vec<u64> = sections.into_iter().flatten().collect();
    assert!(!addresses.is_empty(), "no stubs");
    let mut names = names(path, &addresses);
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn stubs_of_all_linkers_have_the_name_of_their_function() {
    let directory = tempfile::tempdir().unwrap();
    for compiler in [
        "gcc -Wl,-z,lazy",
        "gcc -Wl,-z,now",
        "gcc -no-pie -fno-pie",
        "gcc -fcf-protection -Wl,-z,ibtplt,-z,lazy",
        "gcc -fcf-protection -Wl,-z,ibtplt,-z,now",
        "gcc -fuse-ld=gold",
        "gcc -B/usr/libexec/mold",
        "gcc -B/usr/libexec/mold -Wl,-z,now",
        "clang -fuse-ld=lld",
        "clang -fuse-ld=lld -Wl,-z,retpolineplt",
        "clang -fuse-ld=lld -Wl,-z,retpolineplt,-z,now",
        "clang -fuse-ld=lld -fcf-protection -Wl,-z,force-ibt",
    ] {
        let path = program(directory.path(), compiler);
        let names = names_of_stubs(&path);
        for expected in ["empty@plt", "other@plt"] {
            assert!(names.iter().any(|name| name == expected), "{compiler}: {names:?}");
        }
        let known =
            ["", ".plt", "empty@plt", "other@plt", "__cxa_finalize@plt", "__gmon_start__@plt"];
        let header = "_PROCEDURE_LINKAGE_TABLE_"; // a symbol that mold writes
        let is_known = |name: &String| name == header || known.contains(&name.as_str());
        assert!(names.iter().all(is_known), "{compiler}: {names:?}");
        if compiler.contains("lazy") {
            assert_eq!(common::name(&path, section(&path, ".plt").start), ".plt", "{compiler}");
        }
        // What `objdump` knows of them is the same.
        let tables = TABLES.iter().filter(|table| !section(&path, table).is_empty());
        for (address, expected) in tables.flat_map(|table| instructions(&path, table)) {
            if expected.ends_with("@plt") {
                assert_eq!(common::name(&path, address), expected, "{compiler} {address:#x}");
            }
        }
    }
}

#[test]
fn stubs_of_files_without_section_headers_have_names() {
    let directory = tempfile::tempdir().unwrap();
    for compiler in ["gcc -Wl,-z,lazy", "clang -fuse-ld=lld", "gcc -no-pie -Wl,-z,now"] {
        let path = program(directory.path(), compiler);
        let stubs = instructions(&path, ".plt");
        let functions = instructions(&path, ".text");
        let mut before = names(&path, &stubs.iter().map(|s| s.0).collect::<Vec<_>>());
        before.iter_mut().filter(|name| *name == ".plt").for_each(String::clear);
        remove_section_headers(&path);
        let after = names(&path, &stubs.iter().map(|s| s.0).collect::<Vec<_>>());
        assert!(before == after && after.contains(&"empty@plt".into()), "{compiler}: {after:?}");
        let functions = names(&path, &functions.iter().map(|s| s.0).collect::<Vec<_>>());
        assert!(functions.iter().all(String::is_empty), "{compiler}: {functions:?}");
    }
}

#[test]
fn stubs_of_static_programs_have_the_name_of_what_selects_the_function() {
    let directory = tempfile::tempdir().unwrap();
    let source = "
        #include <string.h>
        int main(int count, char **arguments) { return strlen(arguments[0]) + count; }";
    for compiler in ["gcc -O1 -static", "gcc -O1 -static-pie"] {
        let path = compile(directory.path(), "program", source, compiler);
        let names = names_of_stubs(&path);
        assert!(names.contains(&"strlen@plt".into()), "{compiler}: {names:?}");
        common::run("strip", "program", directory.path());
        let stripped = names_of_stubs(&path);
        let resolvers = stripped.iter().filter(|name| name.starts_with("*ABS*+0x"));
        assert!(resolvers.count() + 3 >= names.len(), "{compiler}: {stripped:?}");
    }
}

#[test]
fn stubs_of_mangled_functions_are_demangled() {
    let directory = tempfile::tempdir().unwrap();
    let source = "
        #include <vector>
        namespace n { void g(std::vector<int> &v); }
        int main() { std::vector<int> v; n::g(v); return 0; }";
    let library = "#include <vector>\nnamespace n { void g(std::vector<int> &v) { v.clear(); } }";
    compile(directory.path(), "libg.so", library, "g++ -shared -fPIC");
    let path =
        compile(directory.path(), "program", source, "g++ -O1 -L. -Wl,--no-as-needed,-l:libg.so");
    let names = names_of_stubs(&path);
    assert!(names.contains(&"n::g@plt".into()), "{names:?}");
}

#[test]
fn stubs_of_32_bit_programs_have_names() {
    let directory = tempfile::tempdir().unwrap();
    // Without a C library for this, from assembly alone.
    let source = "
        .globl _start
        .type _start, @function
        _start: call empty@PLT
        call other@PLT
        ret
        .size _start, . - _start";
    std::fs::write(directory.path().join("start.s"), source).unwrap();
    let run = |program: &str, arguments: &str| common::run(program, arguments, directory.path());
    run("as", "--32 -o start.o start.s");
    let library = ".globl empty, other\n.type empty, @function\n.type other, @function\n\
        empty: ret\nother: ret\n";
    std::fs::write(directory.path().join("library.s"), library).unwrap();
    run("as", "--32 -o library.o library.s");
    run("ld", "-m elf_i386 -shared -o library.so library.o");
    for linking in ["-shared", "-shared -z now", "-no-pie library.so"] {
        run("ld", &format!("-m elf_i386 {linking} -o program start.o"));
        let names = names_of_stubs(&directory.path().join("program"));
        assert!(names.contains(&"empty@plt".into()), "{linking}: {names:?}");
        assert!(names.contains(&"other@plt".into()), "{linking}: {names:?}");
    }
}
