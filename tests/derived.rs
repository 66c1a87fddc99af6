//! Rows derived from machine code are those of the call frames, where there are any, and assembly
//! without call frames has rows.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{directory, everytick, succeed};
use unwind::derived::{DerivedReport, KnownStarts, check_derived, check_gaps, derive};
use unwind::{Table, read_with_derived};

const OPTIMIZATIONS: [&str; 5] = ["-O0", "-O1", "-O2", "-O3", "-Os"];
const SHAPES: [&[&str]; 4] = [
    &[],
    &["-fno-omit-frame-pointer"],
    &["-no-pie", "-fno-pie", "-fcf-protection=full"],
    &["-fstack-protector-all", "-fstack-clash-protection", "-ffunction-sections"],
];

fn build(compiler: &str, source: &Path, to: &Path, arguments: &[&str]) {
    succeed(Command::new(compiler).arg("-w").args(arguments).arg("-o").arg(to).arg(source));
}

fn read_at(file: &File) -> impl Fn(u64, &mut [u8]) -> bool {
    |offset, bytes| file.read_exact_at(bytes, offset).is_ok()
}

fn check(path: &Path, starts: KnownStarts) -> DerivedReport {
    let file = File::open(path).unwrap();
    check_derived(&read_at(&file), starts).unwrap()
}

#[test]
fn compiled_code_is_derived_as_its_call_frames_say() {
    let directory = directory();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/derived.c");
    for compiler in ["gcc", "clang"] {
        for shape in SHAPES {
            for optimization in OPTIMIZATIONS {
                let arguments = [&[optimization], shape].concat();
                let name = format!("{compiler} {}", arguments.join(" "));
                let program = directory.path().join("program");
                build(compiler, &source, &program, &arguments);
                for starts in [KnownStarts::FromCallFrames, KnownStarts::None] {
                    let report = check(&program, starts);
                    assert!(report.wrong.is_empty(), "{name}, {starts:?}: {:x?}", report.wrong);
                    let share = report.equal as f64 / report.instructions as f64;
                    // Without optimization, the index of a jump table is in memory.
                    let expected = if optimization == "-O0" { 0.85 } else { 0.9 };
                    assert!(share > expected, "{name}, {starts:?}: {share}: {:?}", report.given_up);
                }
            }
        }
    }
}

#[test]
fn libraries_of_this_system_are_within_the_limits() {
    let loaded = fs::read_to_string("/proc/self/maps").unwrap();
    let is_library = |path: &&str| path.contains("/libc.so") || path.contains("/ld-linux");
    let mut paths: Vec<&str> = loaded.lines().filter_map(|line| line.get(73..)).collect();
    paths.retain(|path| is_library(path));
    paths.dedup();
    assert!(paths.len() >= 2, "{loaded}");
    let output =
        everytick().args(["unwind", "--check", "--derived"]).args(&paths).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    for mode in ["known", "hidden", "gaps"] {
        let modes = text.lines().filter_map(|line| line.split_whitespace().nth(1));
        assert_eq!(modes.filter(|other| *other == mode).count(), paths.len() + 1, "{text}");
    }
}

/// Builds a library of assembly, without call frames but for one function.
fn assemble(directory: &Path, assembly: &str) -> PathBuf {
    let (source, library) = (directory.join("code.s"), directory.join("code.so"));
    fs::write(&source, assembly).unwrap();
    build("gcc", &source, &library, &["-shared", "-nostdlib"]);
    library
}

#[test]
fn assembly_without_call_frames_has_rows() {
    let directory = directory();
    let library = assemble(
        directory.path(),
        r#"
        .text
        .globl described
        .type described, @function
    described:
        .cfi_startproc
        lea by_address(%rip), %rax
        call called
        .cfi_endproc
        # Called by the function before, which has call frames.
    called:
        push %rbx
        sub $32, %rsp
        vpxor %xmm0, %xmm0, %xmm0
        add $32, %rsp
        pop %rbx
        ret
        .p2align 4
        # Only its address is taken.
    by_address:
        push %rbp
        mov %rsp, %rbp
        and $-32, %rsp
        sub $64, %rsp
        leave
        ret
        .p2align 5
        # Nothing mentions it.
    unmentioned:
        cmp $3, %edi
        jb 1f
        mov $1, %eax
        ret
    1:  push %r12
        call *%rsi
        pop %r12
        ret
        .byte 0xcc, 0xcc, 0xcc
        .section .note.GNU-stack, "", @progbits
        "#,
    );
    let file = File::open(&library).unwrap();
    let report = check_gaps(&read_at(&file)).unwrap();
    assert_eq!((report.with_row, report.functions), (report.code, 3), "{report:?}");
    assert!(report.code > 40 && report.padding >= 3, "{report:?}");

    let mut command = everytick();
    let output = command.args(["unwind", "--rows", "--derived"]).arg(&library).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let rows = text.lines().filter(|line| line.contains("cfa = "));
    let (derived, described): (Vec<_>, Vec<_>) = rows.partition(|line| line.ends_with("(derived)"));
    // What is described is one function that never moves its stack pointer.
    assert_eq!(described.len(), 1, "{text}");
    assert!(derived.len() == 7 && derived[1].contains("rsp+16"), "{text}");
}

#[test]
fn constants_between_functions_have_no_rows() {
    let directory = directory();
    let constants: String = (0..4096u32).fold(String::new(), |text, number| {
        text + &format!(".long {}\n", number.wrapping_mul(2_654_435_761))
    });
    let library = assemble(
        directory.path(),
        &format!(
            ".text\n.globl f\n.type f, @function\nf: .cfi_startproc\nret\n.cfi_endproc\n\
             .p2align 4\n{constants}\n.section .note.GNU-stack, \"\", @progbits\n"
        ),
    );
    let file = File::open(&library).unwrap();
    let report = check_gaps(&read_at(&file)).unwrap();
    assert!(report.code > 12_000 && report.with_row < report.code / 20, "{report:?}");
}

/// Returns the addresses of the functions of a program, by name.
fn functions(program: &Path) -> HashMap<String, std::ops::Range<u64>> {
    let symbols = succeed(Command::new("nm").arg("-S").arg(program));
    let fields = symbols.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let functions = fields.filter_map(|fields| match fields[..] {
        [address, size, _, name] => {
            Some((name.to_owned(), number(address)..number(address) + number(size)))
        }
        _ => None,
    });
    functions.collect()
}

/// Returns the table of a program, with derived rows.
fn table(program: &Path) -> Table {
    let file = File::open(program).unwrap();
    let read = read_at(&file);
    let derived = derive(&read).unwrap();
    read_with_derived(&read, &derived, &mut || {}).unwrap().table
}

/// Returns the rules of a function, each once, in the order of its addresses.
fn rules(table: &Table, function: &std::ops::Range<u64>) -> Vec<String> {
    let mut rules: Vec<String> = function
        .clone()
        .map(|at| table.rule_at(at).to_string().replace(", ra at cfa-8", ""))
        .collect();
    rules.dedup();
    rules
}

const FRAME_POINTER: [&str; 4] =
    ["cfa = rsp+8", "cfa = rsp+16", "cfa = rbp+16, fp at cfa-16", "cfa = rsp+8"];

#[test]
fn short_function_before_an_aligned_one_is_no_padding() {
    let directory = directory();
    let library = assemble(
        directory.path(),
        r#"
        .text
        .p2align 6
        .type outer, @function
    outer:
        .cfi_startproc
        push %rbx
        .cfi_adjust_cfa_offset 8
        call framed
        call pushing
        pop %rbx
        .cfi_adjust_cfa_offset -8
        ret
        .cfi_endproc
        .size outer, .-outer
        .p2align 4
        .type framed, @function
    framed:
        push %rbp
        mov %rsp, %rbp
        call *%rdi
        pop %rbp
        ret
        .size framed, .-framed
        .p2align 6
        .type described, @function
    described:
        .cfi_startproc
        sub $24, %rsp
        .cfi_adjust_cfa_offset 24
        add $24, %rsp
        .cfi_adjust_cfa_offset -24
        ret
        .cfi_endproc
        .size described, .-described
        .type pushing, @function
    pushing:
        push %rbx
        push %rbx
        call *%rdi
        pop %rbx
        pop %rbx
        ret
        .size pushing, .-pushing
        .p2align 6
        .type last, @function
    last:
        .cfi_startproc
        ret
        .cfi_endproc
        .size last, .-last
        .section .note.GNU-stack, "", @progbits
        "#,
    );
    let (functions, table) = (functions(&library), table(&library));
    assert_eq!(rules(&table, &functions["framed"]), FRAME_POINTER);
    let pushing = ["cfa = rsp+8", "cfa = rsp+16", "cfa = rsp+24", "cfa = rsp+16", "cfa = rsp+8"];
    assert_eq!(rules(&table, &functions["pushing"]), pushing);
}

#[test]
fn leaves_and_prologues_without_call_frames_have_rows() {
    let directory = directory();
    let source = directory.path().join("program.c");
    fs::write(
        &source,
        "volatile unsigned long sum;\n\
         __attribute__((noinline)) void leaf(unsigned long x) { sum += x; }\n\
         __attribute__((noinline)) void caller(void) { leaf(sum); sum++; }\n\
         int main(void) { caller(); return 0; }\n",
    )
    .unwrap();
    let program = directory.path().join("program");
    let arguments = [
        "-O1",
        "-fno-omit-frame-pointer",
        "-fno-asynchronous-unwind-tables",
        "-fno-optimize-sibling-calls",
    ];
    for compiler in ["gcc", "clang"] {
        for strip in [&[][..], &["-s"]] {
            build(compiler, &source, &program, &arguments);
            let functions = functions(&program);
            build(compiler, &source, &program, &[&arguments[..], strip].concat());
            let table = table(&program);
            assert_eq!(rules(&table, &functions["caller"]), FRAME_POINTER, "{compiler} {strip:?}");
            let leaf = rules(&table, &functions["leaf"]);
            assert!(leaf == FRAME_POINTER || leaf == ["cfa = rsp+8"], "{compiler}: {leaf:?}");
        }
    }
}

#[test]
fn main_of_a_rust_program_that_aborts_has_rows() {
    let directory = directory();
    let source = directory.path().join("program.rs");
    fs::write(&source, "fn main() { println!(\"{}\", std::env::args().count()); }\n").unwrap();
    let program = directory.path().join("program");
    for optimization in ["-Copt-level=0", "-Copt-level=3"] {
        let arguments = ["-Cpanic=abort", optimization, "--crate-name=program"];
        succeed(Command::new("rustc").args(arguments).arg(&source).arg("-o").arg(&program));
        let (functions, table) = (functions(&program), table(&program));
        let main = rules(&table, &functions["main"]);
        assert!(main.len() >= 3, "{optimization}: {main:?}");
        assert!(main.iter().all(|rule| rule.starts_with("cfa = ")), "{optimization}: {main:?}");
        assert_eq!((&*main[0], &**main.last().unwrap()), ("cfa = rsp+8", "cfa = rsp+8"));
    }
}
