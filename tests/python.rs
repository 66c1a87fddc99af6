//! Frames of Python are exact: programs that know their own stack, of which at least 99.9 % of the
//! samples have its functions, files and lines in order, with native frames where they belong.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::known_stacks::{Frame, Stack, compare, known_stacks, stacks};
use common::python::{KnownRun, PYTHON, Program, installed, source};
use common::{Folded, alone, compile_with, directory, record, succeed};

#[test]
fn functions_classes_and_expressions() {
    let _alone = alone();
    Program::new("plain.py", &[]).check();
}

#[test]
fn generators_and_coroutines() {
    let _alone = alone();
    Program::new("generators.py", &[]).check();
}

#[test]
fn exceptions_finalizers_and_hooks() {
    let _alone = alone();
    Program::new("exceptions.py", &[]).check();
}

#[test]
fn native_frames_between_python_frames() {
    let _alone = alone();
    Program::new("callbacks.py", &[]).check();
}

#[test]
fn c_code_with_and_without_the_lock_of_the_interpreter() {
    let _alone = alone();
    Program::new("c_code.py", &[]).check();
}

#[test]
fn threads_have_their_own_stacks() {
    let _alone = alone();
    Program::new("threads.py", &[]).check();
}

#[test]
fn names_of_any_character_and_length() {
    let _alone = alone();
    Program::new("names.py", &[]).check();
}

#[test]
fn code_objects_at_reused_addresses_have_their_own_names() {
    let _alone = alone();
    Program::new("marks.py", &[]).with_functions(&["mark_", "twin_"]).check();
}

#[test]
fn reloaded_module_has_its_new_names() {
    let _alone = alone();
    Program::new("reload.py", &[]).with_functions(&["mark_"]).check();
}

#[test]
fn forked_workers_have_their_own_stacks() {
    let _alone = alone();
    Program::new("forks.py", &["fork"]).with_children().check();
    for method in ["pool", "spawn"] {
        let program = Program::new("forks.py", &[method]);
        program.with_children().with_started_interpreters().check();
    }
}

#[test]
fn exec_of_another_interpreter_invalidates_names() {
    let _alone = alone();
    Program::new("executes.py", &[]).with_started_interpreters().check();
}

#[test]
fn interpreters_within_an_interpreter() {
    let _alone = alone();
    Program::new("subinterpreters.py", &[]).with_started_interpreters().check();
    // From 3.12 on a thread says which interpreter it runs.
    let newer = ["3.12", "3.13", "3.14", "3.15"].into_iter().flat_map(installed);
    for interpreter in newer {
        let program = Program::by(&interpreter, "subinterpreters.py").with_started_interpreters();
        program.with_windows_of(&["spin"]).check();
    }
}

#[test]
fn interpreter_is_recognised_by_its_symbols_alone() {
    let _alone = alone();
    let place = directory();
    let copy = place.path().join("worker");
    fs::copy(PYTHON, &copy).unwrap();
    succeed(Command::new("strip").arg(&copy));
    let command = [copy, source("plain.py")].map(|path| path.to_str().unwrap().to_owned());
    Program::of(command.into()).with_variable("PYTHONHOME", "/usr").check();
}

#[test]
fn virtual_environment() {
    let _alone = alone();
    let place = directory();
    let make = ["-m", "venv", "--without-pip"];
    succeed(Command::new(PYTHON).args(make).arg(place.path()));
    let python = place.path().join("bin/python");
    let command = [python, source("generators.py")].map(|path| path.to_str().unwrap().to_owned());
    Program::of(command.into()).check();
}

/// Compiles the program of C that runs Python in a library.
fn compile_embedding(directory: &Path) -> PathBuf {
    let mut config = Command::new("/usr/bin/python3-config");
    let flags = succeed(config.args(["--embed", "--includes", "--ldflags"]));
    let flags: Vec<&str> = flags.split_whitespace().collect();
    // The compiler takes libraries after the source that needs them.
    let flags = [&["-Wl,--no-as-needed"], &flags[..]].concat();
    compile_with("python/embed.c", directory, "embed", &flags)
}

#[test]
fn interpreter_in_a_program_of_c() {
    let _alone = alone();
    let place = directory();
    let program = compile_embedding(place.path());
    let directory = source("");
    for how in ["main", "string", "call", "thread", "again"] {
        let file = source("embedded.py");
        let command = [program.to_str().unwrap(), how, file.to_str().unwrap()];
        let command = command.map(str::to_owned).to_vec();
        Program::of(command)
            .with_variable("PYTHONPATH", directory.to_str().unwrap())
            .with_variable("WINDOW_SECONDS", "0.4")
            .with_started_interpreters()
            .check();
    }
}

#[test]
fn interpreter_in_gdb() {
    let _alone = alone();
    let is_installed = Command::new("gdb").arg("--version").output();
    if !is_installed.is_ok_and(|output| output.status.success()) {
        return; // not every machine has it
    }
    let (directory, file) = (source(""), source("embedded.py"));
    let command = ["gdb", "-batch", "-nx", "-x", file.to_str().unwrap()];
    Program::of(command.map(str::to_owned).to_vec())
        .with_variable("PYTHONPATH", directory.to_str().unwrap())
        .with_variable("NATIVES", "")
        .with_variable("WINDOW_SECONDS", "0.4")
        .with_started_interpreters()
        .check();
}

/// Returns whether a stack has a frame of Python, and whether each of these has a name and a line.
fn has_names(stack: &Stack) -> Option<bool> {
    let python = stack.python();
    let is_named = |frame: &&Frame| match frame {
        Frame::Python { name, line, .. } => !name.is_empty() && !name.starts_with('[') && *line > 0,
        Frame::Native { .. } => false,
    };
    (!python.is_empty()).then(|| python.iter().all(is_named))
}

#[test]
fn processes_of_20_milliseconds_have_names_and_lines() {
    let _alone = alone();
    let run = format!("{PYTHON} -I -S {} 20", source("short.py").display());
    let script = format!("run() {{ for i in $(seq 150); do {run}; done; }}; run & run & wait");
    let recorded = record(&["-F", "997", "--no-kernel", "--", "sh", "-c", &script]).succeeded();
    let stacks = stacks(&recorded.pprof());
    let count = |is: &dyn Fn(&Stack) -> bool| -> u64 {
        stacks.iter().filter(|stack| is(stack)).map(|stack| stack.count).sum()
    };
    let all = count(&|stack| stack.comm == "python3");
    let with_frames = count(&|stack| has_names(stack).is_some());
    let named = count(&|stack| has_names(stack) == Some(true));
    assert!(with_frames * 3 > all, "{with_frames} of {all}: {}", recorded.stderr);
    // A tick sends eight names: the first of a process that imports modules sees more functions.
    assert!(named * 100 >= with_frames * 95, "{named} of {with_frames}: {}", recorded.stderr);

    let expected = ["works_inner", "works", "main", "<module>"];
    let is_whole = |stack: &Stack| {
        let name = |frame: &&Frame| match frame {
            Frame::Python { name, .. } => name.clone(),
            Frame::Native { .. } => String::new(),
        };
        stack.python().iter().map(name).eq(expected)
    };
    let in_work = count(&|stack| stack.has_function("works_inner"));
    let whole = count(&is_whole);
    assert!(in_work > 300 && whole * 100 >= in_work * 99, "{whole} of {in_work}");
}

#[test]
fn interpreter_is_followed_from_its_first_instruction() {
    let _alone = alone();
    let place = directory();
    let path = place.path().join("stacks");
    let variables = [format!("STACKS={}", path.display()), "WINDOW_SECONDS=0.1".to_owned()];
    let program = source("generators.py");
    let arguments = ["-F", "997", "--no-kernel", "--", "env", &variables[0], &variables[1], PYTHON];
    let arguments = [&arguments[..], &[program.to_str().unwrap()]].concat();
    let recorded = record(&arguments).succeeded();
    let program = Program::new("generators.py", &[]).with_started_interpreters();
    KnownRun::read(program, recorded, &path).assert_exact();
}

/// Counts the stacks of a folded file in which a frame that begins with `outer` is right outside of
/// one that begins with `inner`, and those with both in this order.
fn neighbours(folded: &Folded, outer: &str, inner: &str) -> (u64, u64) {
    let (mut adjacent, mut all) = (0, 0);
    for (stack, count) in folded {
        let mut places = stack.iter().enumerate().filter(|(_, frame)| frame.starts_with(outer));
        let Some((at, _)) = places.next() else { continue };
        let is_inner = |frame: &&String| frame.starts_with(inner);
        adjacent += if stack.get(at + 1).iter().any(is_inner) { *count } else { 0 };
        all += if stack[at..].iter().any(|frame| frame.starts_with(inner)) { *count } else { 0 };
    }
    (adjacent, all)
}

#[test]
fn frames_of_the_interpreter_itself_are_hidden_unless_they_are_asked_for() {
    let _alone = alone();
    let program = Program::new("callbacks.py", &[]);
    let (outer, inner) = ("alternate (callbacks.py:", "alternate.<locals>.<lambda> (callbacks.py:");
    let hidden = program.record().recorded.folded();
    let (adjacent, all) = neighbours(&hidden, outer, inner);
    assert!(all > 20 && adjacent == all, "{adjacent} of {all}");
    let is_machinery = |frame: &String| frame.contains("_PyEval_EvalFrameDefault");
    assert!(!hidden.iter().any(|(stack, _)| stack.iter().any(is_machinery)));
    // The C library is no part of the interpreter.
    let (adjacent, all) = neighbours(&hidden, "c_library (callbacks.py:", "c_library.<locals>.");
    assert!(all > 20 && adjacent == 0, "{adjacent} of {all}");

    let shown = program.record_with(&["--runtime-frames", "show"]).recorded.folded();
    let (adjacent, all) = neighbours(&shown, outer, inner);
    assert!(all > 20 && adjacent == 0, "{adjacent} of {all}");
    assert!(shown.iter().any(|(stack, _)| stack.iter().any(is_machinery)));
}

#[test]
fn samples_are_compared_frame_by_frame() {
    let place = directory();
    let path = place.path().join("stacks");
    let long = "n".repeat(300);
    let text = format!(
        "1\t2\tready\t\n\
         1\t2\tsort\t1:libc 2:main\tkey\tf.py\t3\t4\tsorts\tf.py\t7\t9\n\
         1\t2\tlong\t\t{long}\tf.py\t3\t4\n\
         1\t2\tfar\t\tbeyond_table\tf.py\t3\t4\n"
    );
    fs::write(&path, text).unwrap();
    let known = known_stacks(&path);
    let stack = |words: &str| {
        let frame = |word: &str| match word.split(':').collect::<Vec<_>>()[..] {
            [name, first_line, line] => Frame::Python {
                name: name.replace('~', " "),
                file: "f.py".into(),
                first_line: first_line.parse().unwrap(),
                line: line.parse().unwrap(),
            },
            _ => {
                let (function, file) = word.split_once('@').unwrap();
                Frame::Native { function: function.into(), file: file.into() }
            }
        };
        let (pid, tid, comm, cut, count) = (1, 2, String::new(), None, 1);
        Stack { pid, tid, comm, cut, count, frames: words.split(' ').map(frame).collect() }
    };
    let fault = |stack: &Stack| compare(stack, &known[&(1, 2)]).1;
    let is = |text: &str, expected: bool| {
        let fault = fault(&stack(text));
        assert_eq!(fault.is_none(), expected, "{text}: {fault:?}");
    };
    is("key:3:4 qsort@libc.so.6 sorts:7:9 main@program", true);
    is(
        "leaf@libm.so.6 key:3:4 eval@python qsort@libc.so.6 sorts:7:9 x@libc.so.6 main@program",
        true,
    );
    is("key:3:5 qsort@libc.so.6 sorts:7:9 main@program", false);
    is("key:2:4 qsort@libc.so.6 sorts:7:9 main@program", false);
    is("other:3:4 qsort@libc.so.6 sorts:7:9 main@program", false);
    is("key:3:4 sorts:7:9 main@program", false);
    is("key:3:4 eval@python sorts:7:9 qsort@libc.so.6 main@program", false);
    is("qsort@libc.so.6 key:3:4 sorts:7:9 main@program", false);
    is("key:3:4 qsort@libc.so.6 sorts:7:9", false);
    is("sorts:7:9 qsort@libc.so.6 key:3:4 main@program", false);
    is("key:3:4 main@program", false);
    is("key:3:4 qsort@libc.so.6 sorts:7:9 sorts:7:9 main@program", false);
    is(&format!("{}...[300~bytes]:3:4 main@program", &long[..256]), true);
    is(&format!("{}...[301~bytes]:3:4 main@program", &long[..256]), false);
    is(&format!("{}...[300~bytes]:3:4 main@program", &long[..255]), false);
    is(&format!("{long}:3:4 main@program"), false);
    is("beyond_table:3:0 main@program", true);
    is("key:3:0 qsort@libc.so.6 sorts:7:9 main@program", false);
    let mut cut = stack("key:3:4 qsort@libc.so.6 sorts:7:9 main@program");
    cut.cut = Some("user: depth limit".into());
    assert!(fault(&cut).is_some());
}
