//! Recordings name what no symbol of a file describes: linkage stubs, and functions of stripped
//! programs of Go. What has no name is not called after what lies before it.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Recorded, Running, alone, directory, record, succeed};

/// Writes a source file and builds it.
fn build(directory: &Path, name: &str, source: &str, arguments: &[&str]) -> PathBuf {
    fs::write(directory.join(name), source).unwrap();
    let (program, rest) = arguments.split_first().unwrap();
    succeed(Command::new(program).args(rest).current_dir(directory).env("CGO_ENABLED", "0"));
    directory.join("program")
}

fn recorded(program: &Path) -> Recorded {
    let running = Running::start(program);
    record(&["-F", "499", "-d", "1", "--no-kernel", "-p", &running.pid()]).succeeded()
}

/// Returns the samples whose stack ends with a frame.
fn samples_in(recorded: &Recorded, frame: &str) -> u64 {
    let stacks = recorded.folded();
    let ends = stacks.iter().filter(|(stack, _)| stack.last().is_some_and(|last| last == frame));
    ends.map(|(_, samples)| samples).sum()
}

#[test]
fn time_in_linkage_stubs_is_that_of_the_stub() {
    let _alone = alone();
    let place = directory();
    let library = "void empty(void) {}";
    build(place.path(), "empty.c", library, &["gcc", "-shared", "-o", "libempty.so", "empty.c"]);
    let source = "void empty(void); int main(void) { for (;;) empty(); }";
    for linker in ["-fuse-ld=bfd", "-fuse-ld=lld"] {
        let rpath = format!("-Wl,-rpath,{}", place.path().display());
        let arguments =
            ["clang", "-O1", linker, "-o", "program", "main.c", "-L.", "-lempty", &rpath];
        let program = build(place.path(), "main.c", source, &arguments);
        // A processor may take a hundredth of the time for them, and no more.
        let running = Running::start(&program);
        let recorded =
            record(&["-F", "9999", "-d", "1", "--no-kernel", "-p", &running.pid()]).succeeded();
        let (stub, init) = (samples_in(&recorded, "empty@plt"), samples_in(&recorded, "_init"));
        assert!(stub > 10 && init == 0, "{linker}: {stub}, {init}: {:?}", recorded.folded());
    }
}

#[test]
fn a_function_without_a_symbol_is_not_called_after_the_one_before() {
    let _alone = alone();
    let place = directory();
    let source = "
        volatile unsigned long s;
        __attribute__((noinline)) void leaf(void) { for (int i = 0; i < 100000; i++) s += i; }
        __attribute__((noinline)) void middle(void) { leaf(); s++; }
        int main(void) { for (;;) middle(); }";
    let program = build(place.path(), "main.c", source, &["gcc", "-O2", "-o", "program", "main.c"]);
    succeed(Command::new("objcopy").arg("--strip-symbol=leaf").arg(&program));
    let recorded = recorded(&program);
    let stacks = recorded.folded();
    let unnamed = stacks.iter().filter(|(stack, _)| {
        let Some([caller, leaf]) = stack.last_chunk() else { return false };
        caller == "middle" && leaf.starts_with("program+0x")
    });
    let unnamed: u64 = unnamed.map(|(_, samples)| samples).sum();
    assert!(unnamed > 100 && samples_in(&recorded, "frame_dummy") == 0, "{stacks:?}");
}

#[test]
fn stripped_programs_of_go_have_names_and_lines() {
    let _alone = alone();
    let place = directory();
    let source = "
package main
var s uint64
func inlined(n uint64) { s += n }
//go:noinline
func leaf() { for n := uint64(0); n < 1000000; n++ { inlined(n) } }
//go:noinline
func middle() { leaf(); s++ }
func main() { for { middle() } }
";
    fs::write(place.path().join("go.mod"), "module program\ngo 1.21\n").unwrap();
    let arguments = ["go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", "program", "."];
    let program = build(place.path(), "main.go", source, &arguments);
    let recorded = recorded(&program);
    let chain = ["runtime.goexit", "runtime.main", "main.main", "main.middle", "main.leaf"];
    assert!(recorded.samples_through(&chain) > 100, "{:?}", recorded.folded());
    let has_line = |frame: &String| frame.starts_with("main.") && frame.contains("main.go:");
    let traces = recorded.traces();
    assert!(traces.iter().any(|trace| trace.frames.iter().any(has_line)), "{traces:#?}");
}
