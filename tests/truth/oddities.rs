//! Programs that are linked, loaded or generated in unusual ways.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use crate::common::{Recorded, Running, alone, directory, pause, record};
use crate::programs::{Program, build, run, source};
use crate::truth::{Stack, Truth, name_frames, stacks};
use crate::{check, check_stacks, profile, truth};

const PLAIN: &str = "_start @libc.so.6{2} main > a b c bare|red_zone|saves_all";

#[test]
fn static_and_position_independent_programs() {
    let _alone = alone();
    let dir = directory();
    let make = |name: &str, more: &[&str]| build(dir.path(), name, "gcc", "plain.c", more);
    let static_chain =
        |name: &str| format!("_start @{name}{{2}} main > a b c bare|red_zone|saves_all");
    let programs = [
        (make("static", &["-O2", "-static"]), static_chain("static")),
        (make("static-pie", &["-O2", "-static-pie"]), static_chain("static-pie")),
        (make("no-pie", &["-O2", "-no-pie"]), PLAIN.to_owned()),
        (make("no-header", &["-O2", "-Wl,--no-eh-frame-hdr"]), PLAIN.to_owned()),
        (
            make("for-debuggers", &["-O2", "-g", "-fno-asynchronous-unwind-tables"]),
            PLAIN.to_owned(),
        ),
    ];
    check_each(&programs, "");
}

#[test]
fn musl_without_call_frames() {
    let _alone = alone();
    let dir = directory();
    let mut programs = Vec::new();
    for (linked, more) in [("static", &["-O2", "-static"][..]), ("dynamic", &["-O2"])] {
        let make = |source: &str| {
            let name = format!("{}-{linked}", source.trim_end_matches(".c"));
            build(dir.path(), &name, "musl-gcc", source, more)
        };
        let library = |program: &Program| match linked {
            "static" => format!("@{}", program.name),
            _ => "@libc.so".to_owned(),
        };
        let plain = make("plain.c");
        let chain = format!("{} main > a b c bare|red_zone|saves_all", library(&plain));
        programs.push((plain, chain));
        let spawn = make("spawn.c");
        let chain = format!("{} entry > work spin", library(&spawn));
        programs.push((spawn, chain));
        let signals = make("signals.c");
        let libc = library(&signals);
        let chain = format!(
            "{libc} main > work spin, \
             {libc} main {libc} > handler|alternate handled, \
             {libc} main work {libc} > handler|alternate handled, \
             {libc} main work spin {libc} > handler|alternate handled"
        );
        programs.push((signals, chain));
    }
    check_each(&programs, "");
}

/// Checks each program against its own chains, which commas separate.
fn check_each(programs: &[(Program, String)], tops: &str) {
    let all: Vec<Program> = programs.iter().map(|(program, _)| program.clone()).collect();
    let chains: Vec<Vec<&str>> = programs.iter().map(|(_, c)| c.split(", ").collect()).collect();
    let truths = chains.iter().map(|chains| Truth { chains, tops, guessed: "" });
    check_stacks(all.iter().zip(truths), &profile(&all));
}

#[test]
fn files_without_symbols_or_sections() {
    let _alone = alone();
    let dir = directory();
    let whole = build(dir.path(), "whole", "gcc", "plain.c", &["-O2", "-fPIE", "-pie"]);
    let stripped = copy(&whole, "stripped");
    run(Command::new("strip").arg(&stripped.path));
    let sectionless = copy(&whole, "sectionless");
    remove_sections(&sectionless.path);
    let programs = [stripped, sectionless];
    let mut stacks = profile(&programs);
    for program in &programs {
        name_frames(&mut stacks, &program.name, &whole.path);
    }
    check_stacks(programs.iter().map(|program| (program, truth(&[PLAIN]))), &stacks);
}

fn copy(program: &Program, name: &str) -> Program {
    let path = program.path.with_file_name(name);
    fs::copy(&program.path, &path).unwrap();
    Program { name: name.into(), path, arguments: Vec::new() }
}

/// Removes the section headers from an ELF header: their offset, their number and the index of
/// their names.
fn remove_sections(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0; 8], 0x28).unwrap();
    file.write_all_at(&[0; 4], 0x3c).unwrap();
}

#[test]
fn library_loaded_by_dlopen() {
    let _alone = alone();
    let dir = directory();
    let library =
        build(dir.path(), "libloaded.so", "gcc", "library.c", &["-O2", "-shared", "-fPIC"]);
    let build_one = |compiler: &str| {
        build(dir.path(), compiler, compiler, "load.c", &["-O2"]).with_argument(&library.path)
    };
    let programs = [build_one("gcc"), build_one("clang")];
    let chain = "_start @libc.so.6{2} main > calls enter work library_leaf";
    // The library's procedure linkage table comes first.
    check(&programs, &Truth { tops: "@libloaded.so", ..truth(&[chain]) });
}

#[test]
fn deleted_executable() {
    let _alone = alone();
    let dir = directory();
    let program = build(dir.path(), "deleted", "gcc", "plain.c", &["-O2"]);
    let running = Running::start(&program.path);
    pause(200);
    fs::remove_file(&program.path).unwrap();
    let arguments = ["-F", "997", "-d", "2", "--no-kernel", "-p", &running.pid()];
    let stacks = of_program(&program, &record(&arguments).succeeded());
    check_stacks([(&program, truth(&[PLAIN]))].into_iter(), &stacks);
}

/// Returns the stacks of all processes that ran a program.
fn of_program(program: &Program, recorded: &Recorded) -> Vec<Stack> {
    let mut stacks = stacks(&recorded.pprof());
    stacks.retain(|stack| stack.comm == program.name);
    for stack in &mut stacks {
        stack.pid.clone_from(&program.name);
    }
    stacks
}

#[test]
fn jit_code_is_unwound_by_frame_pointer() {
    let _alone = alone();
    let dir = directory();
    let programs =
        ["gcc", "clang"].map(|compiler| build(dir.path(), compiler, compiler, "jit.c", &["-O2"]));
    let chain = "_start @libc.so.6{2} main > calls @[jit] called spin";
    check(&programs, &Truth { guessed: "@[jit]", ..truth(&[chain]) });
}

#[test]
fn new_jit_code_is_waited_for() {
    let _alone = alone();
    let dir = directory();
    let program = build(dir.path(), "late", "gcc", "late_jit.c", &["-O2"]);
    let chain = "_start @libc.so.6{2} main > calls @[jit] @[jit] called spin";
    check(&[program], &Truth { guessed: "@[jit]", tops: "@libc.so.6", ..truth(&[chain]) });
}

#[test]
fn rust_without_frame_pointers() {
    let _alone = alone();
    let dir = directory();
    let programs = ["2", "3", "s"].map(|level| {
        let name = format!("rust-O{level}");
        let path = dir.path().join(&name);
        let mut rustc = Command::new("rustc");
        rustc.args(["-Cforce-frame-pointers=no", &format!("-Copt-level={level}"), "-o"]);
        run(rustc.arg(&path).arg(source("plain.rs")));
        Program { name, path, arguments: Vec::new() }
    });
    let chains = programs.clone().map(|program| {
        let rust = "plain::main > plain::a plain::b plain::c plain::spin";
        format!("_start @libc.so.6{{2}} main @{}* {rust}", program.name)
    });
    let programs: Vec<_> = programs.into_iter().zip(chains).collect();
    check_each(&programs, "@libc.so.6"); // memcpy
}

#[test]
fn go_with_cgo() {
    let _alone = alone();
    let dir = directory();
    let programs = ["-O0", "-O2"].map(|level| {
        let name = format!("cgo{level}");
        let path = dir.path().join(&name);
        let mut go = Command::new("go");
        go.env("CGO_CFLAGS", format!("{level} -fomit-frame-pointer")).args(["build", "-o"]);
        run(go.arg(&path).arg(source("cgo.go")));
        Program { name, path, arguments: Vec::new() }
    });
    let chains = [
        "runtime.goexit runtime.main main.main > main.a main.b main.leaf",
        "runtime.goexit runtime.main main.main \
         > main.a main.b main._Cfunc_outer runtime.cgocall runtime.asmcgocall _cgo_~* outer spin",
        "runtime.mcall|runtime.mstart|runtime.systemstack|runtime.morestack", // the runtime itself
    ];
    // Signal handlers return to the C library.
    let tops = "runtime.~|internal/~|indexbytebody|@[vdso]|@libc.so.6";
    check(&programs, &Truth { chains: &chains, tops, guessed: "" });
}

#[test]
fn processes_from_their_first_instruction() {
    let _alone = alone();
    let dir = directory();
    let program = build(dir.path(), "started", "gcc", "plain.c", &["-O2"]);
    let stacks = started(&program, "40");
    let chains =
        ["_start > @libc.so.6{2} main a b c bare|red_zone|saves_all", "@ld-linux-x86-64.so.2"];
    // The compiler's exit code has a frame pointer and no call frames.
    let guessed = "__do_global_dtors_aux";
    let tops = &format!("@ld-linux-x86-64.so.2|@libc.so.6|_init|.plt|~@plt|{guessed}");
    let truth = Truth { chains: &chains, tops, guessed };
    check_stacks([(&program, truth)].into_iter(), &stacks);
}

/// Starts a program thirty times, each recorded from its first instruction.
fn started(program: &Program, argument: &str) -> Vec<Stack> {
    let script = format!("for i in $(seq 30); do {} {argument}; done", program.path.display());
    let arguments = ["-F", "997", "-d", "10", "--no-kernel", "--", "sh", "-c", &script];
    of_program(program, &record(&arguments))
}

#[test]
fn stacks_with_missing_pages() {
    let _alone = alone();
    let dir = directory();
    let program = build(dir.path(), "edge", "gcc", "edge.c", &["-O2"]);
    let chains = ["on_edge > hollow spin", "_start > @libc.so.6{2} main", "@ld-linux-x86-64.so.2"];
    let guessed = "__do_global_dtors_aux";
    let tops = &format!("@ld-linux-x86-64.so.2|@libc.so.6|_init|.plt|~@plt|{guessed}");
    let truth = Truth { chains: &chains, tops, guessed };
    check_stacks([(&program, truth)].into_iter(), &started(&program, ""));
}

#[test]
fn stacks_of_32_bit_code_are_cut() {
    let _alone = alone();
    let dir = directory();
    let (object, path) = (dir.path().join("bits32.o"), dir.path().join("bits32"));
    run(Command::new("as").args(["--32", "-o"]).arg(&object).arg(source("bits32.s")));
    run(Command::new("ld").args(["-m", "elf_i386", "-o"]).arg(&path).arg(&object));
    let running = Running::start(&path);
    let arguments = ["-F", "997", "-d", "1", "--no-kernel", "-p", &running.pid()];
    let recorded = record(&arguments).succeeded();
    let stacks = stacks(&recorded.pprof());
    assert!(stacks.iter().map(|stack| stack.count).sum::<u64>() > 100, "{}", recorded.stderr);
    for stack in &stacks {
        assert_eq!(stack.cut.as_deref(), Some("user: 32-bit code"), "{stack:?}");
        assert_eq!(stack.frames.len(), 1, "{stack:?}");
    }
    assert!(recorded.stderr.contains("cut: 32-bit code 100.0 %"), "{}", recorded.stderr);
}
