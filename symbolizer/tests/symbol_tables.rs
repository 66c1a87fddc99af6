//! Functions are named by all symbol tables that a file has, each up to its end and no further.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{address, ask, compile, name, names, remove_section_headers, run, section};

/// A chain of functions, of which a library exports two.
const CHAIN: &str = "
    volatile unsigned long s;
    __attribute__((noinline)) static void hidden(void) { for (int i = 0; i < 9; i++) s += i; }
    __attribute__((noinline)) void leaf(void) { hidden(); s++; }
    __attribute__((noinline)) void middle(void) { leaf(); s++; }
    int main(void) { middle(); return 0; }";

fn library(directory: &Path, name: &str, compiler: &str) -> PathBuf {
    compile(directory, name, CHAIN, &format!("{compiler} -O1 -shared -fPIC"))
}

#[test]
fn a_function_whose_symbol_was_removed_has_no_name() {
    let directory = tempfile::tempdir().unwrap();
    for compiler in ["gcc -O2", "gcc -O2 -no-pie -fno-plt", "gcc -O1 -static"] {
        let whole = compile(directory.path(), "whole", CHAIN, compiler);
        for removed in ["leaf", "main", "middle", "hidden"] {
            let path = directory.path().join("part");
            run("objcopy", &format!("--strip-symbol={removed} whole part"), directory.path());
            for function in ["leaf", "main", "middle", "hidden"] {
                let expected = if function == removed { "" } else { function };
                let at = address(&whole, function);
                assert_eq!(names(&path, &[at, at + 4]), [expected; 2], "{compiler} {removed}");
            }
        }
        // Functions of start-up files have no size, and their own section or the next as an end.
        let init = section(&whole, ".init");
        let inside = name(&whole, init.end - 1);
        assert_eq!((inside.as_str(), name(&whole, init.end).as_str()), ("_init", ""), "{compiler}");
        assert_eq!(name(&whole, address(&whole, "frame_dummy") + 1), "frame_dummy");
    }
}

#[test]
fn an_address_beyond_the_end_of_a_function_has_no_name() {
    let directory = tempfile::tempdir().unwrap();
    let source = "
        .text
        .globl first, last
        .type first, @function
        first: ret
        .size first, . - first
        .skip 64, 0x90
        .type last, @function
        last: nop; nop; nop
        inner: nop
        ret
        .size last, . - last
        .skip 64, 0x90";
    fs::write(directory.path().join("ends.s"), source).unwrap();
    run("gcc", "-shared -nostdlib -o ends ends.s", directory.path());
    let path = directory.path().join("ends");
    let (first, last) = (address(&path, "first"), address(&path, "last"));
    assert_eq!(names(&path, &[first, first + 1, last - 1]), ["first", "", ""]);
    assert_eq!(names(&path, &[last, last + 4, last + 5, last + 60]), ["last", "last", "", ""]);
}

/// Assembly without sizes, as in musl. All but `hidden` is exported.
#[test]
fn functions_of_assembly_end_where_their_code_does() {
    let directory = tempfile::tempdir().unwrap();
    let source = "
        .text
        .globl loops, jumps, sized, inner
        .type loops, @function; .type jumps, @function; .type sized, @function
        .type inner, @function
        loops: test %rdi, %rdi; jz 2f; 1: dec %rdi; jnz 1b; ret; 2: xor %eax, %eax; ret
        hidden: mov $15, %eax; syscall
        jumps: jmp 3f; 4: ret; 3: nop; jmp 4b; behind: nop; nop
        sized: nop; nop
        inner: nop; nop; label: nop; ret
        .size sized, . - sized";
    fs::write(directory.path().join("whole.s"), source).unwrap();
    run("gcc", "-shared -nostdlib -o whole whole.s", directory.path());
    run("strip", "-o stripped whole", directory.path());
    let whole = directory.path().join("whole");
    let stripped = directory.path().join("stripped");
    let at = ["loops", "hidden", "jumps", "behind", "sized", "inner", "label"]
        .map(|function| address(&whole, function));
    let [_, hidden, _, behind, _, inner, _] = at;
    let expected = ["loops", "hidden", "jumps", "behind", "sized", "inner", "inner"];
    assert_eq!(names(&whole, &at), expected);
    assert_eq!(names(&stripped, &at), ["loops", "", "jumps", "", "sized", "inner", "inner"]);
    assert_eq!(names(&stripped, &[hidden - 1, behind - 1]), ["loops", "jumps"]);
    assert_eq!(names(&stripped, &[inner - 1, inner + 3]), ["sized", "inner"]);
}

#[test]
fn of_several_names_the_most_public_one_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let source = "
        .text
        .globl __strong, _strong, zeta, alpha, unsized
        .weak weak, a_weak
        .type local, @function; .type __strong, @function; .type _strong, @function
        .type weak, @function; .type a_weak, @function; .type zeta, @function
        .type alpha, @function; .type unsized, @function
        local: __strong: _strong: weak: ret
        a_weak: _local: nop; ret
        zeta: alpha: label: nop; nop; ret
        unsized: sized: nop; nop; nop; ret
        .type sized, @function; .type _local, @function
        .size local, 1; .size __strong, 1; .size _strong, 1; .size weak, 1
        .size a_weak, 2; .size _local, 2
        .size zeta, 3; .size alpha, 3; .size sized, 4";
    fs::write(directory.path().join("aliases.s"), source).unwrap();
    run("gcc", "-shared -nostdlib -o aliases aliases.s", directory.path());
    let path = directory.path().join("aliases");
    for (symbol, expected) in
        [("local", "_strong"), ("a_weak", "a_weak"), ("zeta", "alpha"), ("unsized", "sized")]
    {
        assert_eq!(name(&path, address(&path, symbol)), expected, "{symbol}");
    }
}

#[test]
fn files_without_section_headers_have_the_names_that_they_export() {
    let directory = tempfile::tempdir().unwrap();
    for compiler in [
        "gcc -Wl,--hash-style=gnu",
        "gcc -Wl,--hash-style=sysv",
        "clang -fuse-ld=lld -Wl,--hash-style=both",
    ] {
        let path = library(directory.path(), "library", compiler);
        let at = ["leaf", "middle", "main", "hidden"].map(|function| address(&path, function));
        remove_section_headers(&path);
        assert_eq!(names(&path, &at), ["leaf", "middle", "main", ""], "{compiler}");
    }
}

/// Makes a stripped library with MiniDebugInfo, as distributions do. Returns the addresses of its
/// functions `hidden` and `leaf`.
fn with_mini_debug_info(directory: &Path, options_of_xz: &str) -> (PathBuf, [u64; 2]) {
    let library = library(directory, "library", "gcc");
    let at = ["hidden", "leaf"].map(|function| address(&library, function));
    run("objcopy", "--only-keep-debug library mini", directory);
    run("xz", &format!("-f {options_of_xz} mini"), directory);
    run("strip", "library", directory);
    run("objcopy", "--add-section .gnu_debugdata=mini.xz library", directory);
    (library, at)
}

#[test]
fn mini_debug_info_adds_the_names_that_are_not_exported() {
    let directory = tempfile::tempdir().unwrap();
    for options in ["-6", "--check=none", "--x86 --lzma2=dict=64KiB", "--check=sha256 -0"] {
        let (library, at) = with_mini_debug_info(directory.path(), options);
        assert_eq!(names(&library, &at), ["hidden", "leaf"], "{options}");
    }
}

#[test]
fn damaged_mini_debug_info_costs_only_its_own_names() {
    let directory = tempfile::tempdir().unwrap();
    // A dictionary, or a file, that does not fit into memory.
    let (large, at) = with_mini_debug_info(directory.path(), "--lzma2=dict=32MiB");
    assert_eq!(names(&large, &at), ["", "leaf"]);
    let (_, at) = with_mini_debug_info(directory.path(), "-6");
    let zeros = directory.path().join("zeros");
    fs::File::create(&zeros).unwrap().set_len(64 << 20).unwrap();
    run("xz", "-f -1 -T2 zeros", directory.path());
    run("objcopy", "--update-section .gnu_debugdata=zeros.xz library bomb", directory.path());
    assert_eq!(names(&directory.path().join("bomb"), &at), ["", "leaf"]);
    // Bytes that are not xz, or not all of it.
    let whole = fs::read(directory.path().join("mini.xz")).unwrap();
    for damaged in [&b"no xz"[..], &whole[..whole.len() / 2], &[whole.as_slice(), &whole].concat()]
    {
        fs::write(directory.path().join("damaged"), damaged).unwrap();
        run("objcopy", "--update-section .gnu_debugdata=damaged library part", directory.path());
        let names = names(&directory.path().join("part"), &at);
        assert_eq!(names[1], "leaf");
    }
}

#[test]
fn damaged_sections_cost_only_what_they_hold() {
    let directory = tempfile::tempdir().unwrap();
    let path = compile(directory.path(), "program", CHAIN, "gcc -O1 -g -rdynamic");
    let at = ["main", "leaf", "hidden"].map(|function| address(&path, function));
    let inside = at.map(|address| address + 1);
    let list = run("readelf", "-SW program", directory.path());
    let debug: Vec<&str> =
        list.split_whitespace().filter(|word| word.starts_with(".debug_")).collect();
    assert!(debug.len() >= 4, "{list}");
    fs::write(directory.path().join("noise"), [0xa5; 1000]).unwrap();
    for section in debug {
        let update = format!("--update-section {section}=noise program damaged");
        run("objcopy", &update, directory.path());
        let damaged = directory.path().join("damaged");
        assert_eq!(names(&damaged, &inside), ["main", "leaf", "hidden"], "{section}");
    }
    // Without debug info and `.symtab`, what is exported still has names.
    run("strip", "-g -o plain program", directory.path());
    let bytes = fs::read(directory.path().join("plain")).unwrap();
    let symtab = section_offset(directory.path(), "plain", ".symtab");
    let damaged = directory.path().join("damaged");
    let overwritten = |range: std::ops::Range<usize>| {
        let mut bytes = bytes.clone();
        bytes[range].fill(0xff);
        fs::write(&damaged, bytes).unwrap();
        names(&damaged, &inside)
    };
    assert_eq!(overwritten(symtab.clone()), ["main", "leaf", ""]);
    let strtab = section_offset(directory.path(), "plain", ".strtab");
    assert_eq!(overwritten(strtab).len(), 3, "names are damaged, but each is bounded");
}

/// Returns where a section is in its file.
fn section_offset(directory: &Path, file: &str, name: &str) -> std::ops::Range<usize> {
    let list = run("readelf", &format!("-SW {file}"), directory);
    let line = list.lines().find(|line| line.contains(&format!(" {name} "))).unwrap();
    let fields: Vec<&str> = line.split_whitespace().collect();
    let at = fields.iter().position(|field| *field == name).unwrap();
    let number = |at: usize| usize::from_str_radix(fields[at], 16).unwrap();
    number(at + 3)..number(at + 3) + number(at + 4)
}

#[test]
fn odd_names_are_replaced_and_long_ones_cut() {
    let directory = tempfile::tempdir().unwrap();
    let path = compile(directory.path(), "program", CHAIN, "gcc -O1");
    let at = address(&path, "middle");
    let long = "n".repeat(5000);
    run("objcopy", &format!("--redefine-sym middle={long} program"), directory.path());
    let response = ask(&path, &[at]);
    let name = &response.symbols[0].functions[0].name;
    assert!(name.ends_with("nn...[5000 bytes]") && name.len() == 4096 && response.cut == 1);
    let mut bytes = fs::read(&path).unwrap();
    let strtab = section_offset(directory.path(), "program", ".strtab");
    let leaf = bytes[strtab.clone()].windows(6).position(|name| name == b"\0leaf\0").unwrap();
    bytes[strtab.start + leaf + 2] = 0xff;
    fs::write(&path, bytes).unwrap();
    assert_eq!(common::name(&path, address(&path, "main")), "main");
    let leaf = common::names(&path, &(at - 64..at).collect::<Vec<_>>());
    assert!(leaf.contains(&"l\u{fffd}af".to_owned()), "{leaf:?}");
}
