//! Stacks through code without call frames: whole, with every caller, and complete.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Recorded, alone, directory, record, succeed};

/// Writes and builds a program.
fn build(
    compiler: &str,
    directory: &Path,
    sources: &[(&str, &str)],
    arguments: &[&str],
) -> PathBuf {
    let program = directory.join("program");
    let files = sources.iter().map(|(name, text)| {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        path
    });
    let files: Vec<PathBuf> = files.collect();
    let mut command = Command::new(compiler);
    succeed(command.args(arguments).args(files).arg("-o").arg(&program));
    program
}

/// Records a program until it ends.
fn record_program(program: &Path) -> Recorded {
    let program = program.to_str().unwrap();
    record(&["-F", "499", "--no-kernel", "--", program]).succeeded()
}

/// Checks the stacks that end in a function: they lead there by these callers from the root of the
/// program. The first ticks of a program come before its rows: up to 3 % are cut, or omit a caller
/// by a guess.
fn check(recorded: &Recorded, chain: &[&str], what: &str) {
    let innermost = chain.last().unwrap();
    let folded = recorded.folded();
    let here = folded.iter().filter(|(stack, _)| stack.last().is_some_and(|f| f == innermost));
    let all: u64 = here.clone().map(|(_, count)| count).sum();
    let is_whole = |stack: &[String]| {
        let is_marker = |frame: &String| frame.starts_with("[cut") || frame.starts_with("[guess");
        stack.ends_with(&chain.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>())
            && stack.iter().any(|frame| frame == "_start")
            && !stack.iter().any(is_marker)
    };
    let whole: u64 = here.filter(|(stack, _)| is_whole(stack)).map(|(_, count)| count).sum();
    assert!(all > 30, "{what}: only {all} samples: {folded:?}\n{}", recorded.stderr);
    assert!(whole * 100 >= all * 97, "{what}: {whole} of {all}: {folded:#?}\n{}", recorded.stderr);
}

const CALLERS: &str = "
#include <time.h>
long leaf(long);
__attribute__((noinline)) long l2(long a) { return leaf(a) + 1; }
__attribute__((noinline)) long l1(long a) { return l2(a) + 1; }
int main(void)
{
	volatile long sum = 0;
	for (time_t start = time(0); time(0) - start < 3;)
		sum += l1(1000000);
	return 0;
}
";

/// Leaves of assembly without call frames; each counts rdi down.
const LEAVES: [(&str, &str); 4] = [
    ("without a frame", "1: dec %rdi; jnz 1b; ret"),
    (
        "saving registers",
        "push %rbx; push %r12; sub $40, %rsp; 1: dec %rdi; jnz 1b; add $40, %rsp; pop %r12; \
         pop %rbx; ret",
    ),
    ("with its own frame pointer", "push %rbp; mov %rsp, %rbp; 1: dec %rdi; jnz 1b; leave; ret"),
    (
        "on an aligned stack",
        "mov %rsp, %rax; sub $80, %rsp; and $-64, %rsp; mov %rax, 64(%rsp); xor %eax, %eax; \
         1: dec %rdi; jnz 1b; mov 64(%rsp), %rsp; ret",
    ),
];

#[test]
fn leaf_of_assembly_keeps_its_caller() {
    let _alone = alone();
    for (what, body) in LEAVES {
        for frame_pointer in ["-fomit-frame-pointer", "-fno-omit-frame-pointer"] {
            let directory = directory();
            let assembly = format!(
                ".text\n.globl leaf\n.p2align 4\n.type leaf, @function\nleaf: {}\n\
                 .size leaf, .-leaf\n.section .note.GNU-stack, \"\", @progbits\n",
                body.replace(';', "\n")
            );
            let sources = [("main.c", CALLERS), ("leaf.s", &assembly)];
            let program = build("gcc", directory.path(), &sources, &["-O1", frame_pointer]);
            let recorded = record_program(&program);
            check(&recorded, &["main", "l1", "l2", "leaf"], &format!("{what}, {frame_pointer}"));
        }
    }
}

const TINY: &str = "
#include <time.h>
#define N __attribute__((noinline))
volatile unsigned sink;
N unsigned tiny(unsigned a) { sink += a; return sink ^ a; }
N unsigned l3(unsigned n)
{
	unsigned s = 0;
	for (unsigned i = 0; i < n; i++)
		s += tiny(i);
	return s + 1;
}
N unsigned l2(unsigned n) { return l3(n) + 1; }
N unsigned l1(unsigned n) { return l2(n) + 1; }
int main(void)
{
	for (time_t start = time(0); time(0) - start < 3;)
		sink += l1(1000000);
	return 0;
}
";

#[test]
fn program_without_call_frames_keeps_every_caller() {
    let _alone = alone();
    for compiler in ["gcc", "clang"] {
        for frame_pointer in ["-fomit-frame-pointer", "-fno-omit-frame-pointer"] {
            let directory = directory();
            let arguments = [
                "-O1",
                frame_pointer,
                "-fno-asynchronous-unwind-tables",
                "-fno-optimize-sibling-calls",
            ];
            let program = build(compiler, directory.path(), &[("main.c", TINY)], &arguments);
            let what = format!("{compiler} {frame_pointer}");
            check(&record_program(&program), &["main", "l1", "l2", "l3", "tiny"], &what);
        }
    }
}

#[test]
fn short_function_in_front_of_an_aligned_one_has_its_own_caller() {
    let _alone = alone();
    let leaves = [
        ("frame pointer", "push %rbp; mov %rsp, %rbp; 1: dec %rdi; jnz 1b; pop %rbp; ret"),
        (
            "address of code pushed",
            "push %rbx; lea innocent+9(%rip), %rbx; push %rbx; 1: dec %rdi; jnz 1b; pop %rbx; \
             pop %rbx; ret",
        ),
    ];
    for (what, body) in leaves {
        let directory = directory();
        let assembly = format!(
            ".text\n.globl leaf, innocent\n.p2align 6\n.type before, @function\nbefore:\n\
             .cfi_startproc\nnop\nret\n.cfi_endproc\n.size before, .-before\n.p2align 4\n\
             .type leaf, @function\nleaf: {}\n.size leaf, .-leaf\n.p2align 6\n\
             .type innocent, @function\ninnocent:\n.cfi_startproc\nsub $24, %rsp\n\
             .cfi_def_cfa_offset 32\ncall before\nadd $24, %rsp\n.cfi_def_cfa_offset 8\nret\n\
             .cfi_endproc\n.size innocent, .-innocent\n\
             .section .note.GNU-stack, \"\", @progbits\n",
            body.replace(';', "\n")
        );
        let sources = [("main.c", CALLERS), ("leaf.s", &assembly)];
        let program = build("gcc", directory.path(), &sources, &["-O1"]);
        let recorded = record_program(&program);
        check(&recorded, &["main", "l1", "l2", "leaf"], what);
        assert_eq!(recorded.samples_through(&["innocent"]), 0, "{what}: {:?}", recorded.folded());
    }
}

#[test]
fn rust_program_that_aborts_has_complete_stacks() {
    let _alone = alone();
    let source = "
        #[inline(never)]
        fn leaf(n: u64) -> u64 {
            (0..n).fold(0, |sum, i| sum ^ std::hint::black_box(i))
        }
        fn main() {
            let start = std::time::Instant::now();
            let mut sum = 0u64;
            while start.elapsed().as_secs() < 3 {
                sum ^= leaf(std::hint::black_box(100_000));
            }
            println!(\"{sum}\");
        }
    ";
    for optimization in ["-Copt-level=1", "-Copt-level=3"] {
        let directory = directory();
        let path = directory.path().join("main.rs");
        fs::write(&path, source).unwrap();
        let program = directory.path().join("program");
        let arguments = ["-Cpanic=abort", optimization, "--crate-name=program"];
        succeed(Command::new("rustc").args(arguments).arg(&path).arg("-o").arg(&program));
        let folded = record_program(&program).folded();
        let all: u64 = folded.iter().map(|(_, count)| count).sum();
        let complete = |(stack, _): &&(Vec<String>, u64)| {
            stack.iter().any(|frame| frame == "_start") && stack.iter().any(|frame| frame == "main")
        };
        let complete: u64 = folded.iter().filter(complete).map(|(_, count)| count).sum();
        assert!(
            all > 30 && complete * 100 >= all * 99,
            "{optimization}: {complete} of {all}: {folded:#?}"
        );
    }
}

/// Functions of the large program, in 16 KiB of code each.
const LARGE_FUNCTIONS: usize = 2200;
/// Functions of it that call each other.
const LARGE_DEPTH: usize = 10;

/// Returns the assembly of a chain of functions, with and without frame pointers in turn. The first
/// one is `leaf`, and the last counts.
fn large_assembly() -> String {
    let name = |n: usize| if n == 0 { "leaf".to_owned() } else { format!("large{n}") };
    let mut text = String::from(".text\n.globl leaf\n");
    for n in 0..LARGE_FUNCTIONS {
        let (enter, leave) = match n % 2 {
            0 => ("push %rbp\nmov %rsp, %rbp", "pop %rbp"),
            _ => ("push %rbx\nsub $32, %rsp", "add $32, %rsp\npop %rbx"),
        };
        let body = match n + 1 {
            LARGE_DEPTH => "1: dec %rdi\njnz 1b".to_owned(),
            next => format!("call {}", name(next % LARGE_FUNCTIONS)),
        };
        let name = name(n);
        text += &format!(
            ".p2align 14\n.type {name}, @function\n{name}:\n{enter}\n{body}\n{leave}\nret\n\
             .size {name}, .-{name}\n"
        );
    }
    text + ".section .note.GNU-stack, \"\", @progbits\n"
}

#[test]
fn large_program_has_rows_for_the_parts_that_it_runs() {
    let _alone = alone();
    let directory = directory();
    let sources = [("main.c", CALLERS), ("leaf.s", &*large_assembly())];
    let program = build("gcc", directory.path(), &sources, &["-O1"]);
    let cache = directory.path().join("cache");
    let chain: Vec<String> = (1..LARGE_DEPTH).map(|n| format!("large{n}")).collect();
    let chain: Vec<&str> =
        ["main", "l1", "l2", "leaf"].into_iter().chain(chain.iter().map(|n| &**n)).collect();
    let mut cached = Vec::new();
    for run in ["first", "second"] {
        let (program, cache) = (program.to_str().unwrap(), cache.to_str().unwrap());
        let arguments = ["-F", "499", "--no-kernel", "--cache-dir", cache, "--", program];
        let recorded = record(&arguments).succeeded();
        check(&recorded, &chain, run);
        let mut files: Vec<_> =
            fs::read_dir(cache).unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        assert!(files.len() >= LARGE_DEPTH, "{run}: {files:?}");
        if run == "second" {
            assert!(cached.iter().all(|file| files.contains(file)), "{}", recorded.stderr);
            let line = recorded.stderr.lines().find(|line| line.contains(" from the cache"));
            let line = line.unwrap_or_else(|| panic!("{}", recorded.stderr));
            let loaded = line.split(" from the cache").next().unwrap().rsplit(' ').next().unwrap();
            assert!(loaded.parse::<usize>().unwrap() >= LARGE_DEPTH, "{line}");
        }
        cached = files;
    }
}

/// A program that writes machine code, and calls functions through it or not.
fn writes_code(bytes: &str, functions: &str) -> String {
    format!(
        "
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#define N __attribute__((noinline))
volatile unsigned sink;
static long (*code)(long, long, long, long (*)(long));
{functions}
int main(void)
{{
	static const unsigned char bytes[] = {{{bytes}}};
	code = mmap(0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(code, bytes, sizeof(bytes));
	for (time_t start = time(0); time(0) - start < 4;)
		sink += outer(100000);
	return 0;
}}
"
    )
}

#[test]
fn trampolines_in_memory_keep_their_caller() {
    let _alone = alone();
    let functions = "
N long leaf(long a) { for (long i = 0; i < a; i++) sink += i; return sink; }
N long middle(long a) { return code(a, 0, 0, leaf) + 1; }
N long outer(long a) { return code(a, 0, 0, middle) + 1; }";
    let trampolines = [
        // sub $8, %rsp; call *%rcx; add $8, %rsp; ret
        ("as CPython 3.12 writes it", "0x48,0x83,0xec,8,0xff,0xd1,0x48,0x83,0xc4,8,0xc3"),
        (
            "that saves a register",
            "0x53,0x48,0x81,0xec,128,0,0,0,0xff,0xd1,0x48,0x81,0xc4,128,0,0,0,0x5b,0xc3",
        ),
        ("that aligns the stack", "0x55,0x48,0x89,0xe5,0x48,0x83,0xe4,0xf0,0xff,0xd1,0xc9,0xc3"),
    ];
    for (what, bytes) in trampolines {
        let directory = directory();
        let source = writes_code(bytes, functions);
        let arguments = ["-O1", "-fomit-frame-pointer"];
        let program = build("gcc", directory.path(), &[("main.c", &source)], &arguments);
        let chain = ["main", "outer", "[jit]", "middle", "[jit]", "leaf"];
        check(&record_program(&program), &chain, what);
    }
}

#[test]
fn code_in_memory_keeps_its_caller_where_its_frame_begins_and_ends() {
    let _alone = alone();
    let functions = "
N long outer(long a) { for (long i = 0; i < a; i++) sink += code(i, 0, 0, 0); return sink; }";
    let bodies = [
        ("with a frame pointer", "0x55,0x48,0x89,0xe5,0x5d,0xc3"),
        ("with a landing pad and leave", "0xf3,0x0f,0x1e,0xfa,0x55,0x48,0x8b,0xec,0xc9,0xc3"),
    ];
    for (what, bytes) in bodies {
        for frame_pointer in ["-fomit-frame-pointer", "-fno-omit-frame-pointer"] {
            let directory = directory();
            let source = writes_code(bytes, functions);
            let arguments = ["-O1", frame_pointer];
            let program = build("gcc", directory.path(), &[("main.c", &source)], &arguments);
            let what = format!("{what}, {frame_pointer}");
            check(&record_program(&program), &["main", "outer", "[jit]"], &what);
        }
    }
}
