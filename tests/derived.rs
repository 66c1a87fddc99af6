//! Rows derived from machine code are those of the call frames, where there are any, and assembly
//! without call frames has rows.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{directory, everytick, succeed};
use unwind::derived::{DerivedReport, KnownStarts, check_derived, check_gaps};

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
                    let expected = if optimization == "-O0" { 0.85 } else { 0.96 };
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
