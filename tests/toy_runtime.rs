//! A runtime that is added as `docs/adding-a-runtime.md` says has frames of its own: those of
//! `tests/programs/toy.c` are exact.
//!
//! `./dev toy-runtime` runs this test, in a copy of the tree with `tests/toy_runtime/toy.patch`. A
//! plain `cargo test` does not: the program itself does not know this interpreter.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::process::{Command, Stdio};

use common::python::Program;
use common::{Running, alone, compile_with, directory, everytick, wait_until};

#[test]
fn frames_of_the_toy_interpreter_are_exact() {
    let _alone = alone();
    let place = directory();
    let toy = compile_with("toy.c", place.path(), "toy", &["-rdynamic"]);
    let run = Program::of(vec![toy.to_str().unwrap().to_owned()]).check();
    let score = run.score();
    eprintln!("{} of {} ticks are exact", score.exact, score.all);
    // Each of two threads has five windows, and five more with fewer callbacks.
    assert_eq!(score.windows.len(), 5, "{:?}", score.windows);
    assert!(score.all > 500, "{} ticks", score.all);
}

#[test]
fn toy_interpreter_is_shown_with_its_version() {
    let place = directory();
    let toy = compile_with("toy.c", place.path(), "toy", &["-rdynamic"]);
    let mut command = Command::new(&toy);
    let running = Running(command.stdin(Stdio::piped()).spawn().unwrap());
    let shown = || {
        let output = everytick().args(["runtimes", &running.pid()]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    wait_until("a program that is executed", || shown().contains("toy"));
    assert!(shown().contains("runtime     Toy 1"), "{}", shown());
}
