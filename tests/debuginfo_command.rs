//! `everytick debuginfo` shows where the names of files, processes and profiles come from, which
//! paths were searched for debug info, and what to do.
#![allow(clippy::unwrap_used)]

mod common;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Running, alone, compile_with, directory, everytick, record, succeed};

/// Runs the command. Returns what it prints, whether it succeeded, and its errors.
fn debuginfo(targets: &[&str]) -> (String, bool, String) {
    let output = everytick().arg("debuginfo").args(targets).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), output.status.success(), text(output.stderr))
}

#[track_caller]
fn assert_has(text: &str, expected: &[&str]) {
    for part in expected {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn each_place_and_the_result_are_shown() {
    let place = directory();
    let program = compile_with("chain.c", place.path(), "app", &["-Wl,--build-id"]);
    let debug = place.path().join("app.debug");
    succeed(Command::new("objcopy").arg("--only-keep-debug").arg(&program).arg(&debug));
    let (text, is_success, _) = debuginfo(&[path(&program)]);
    assert!(is_success);
    assert_has(&text, &["itself has  DWARF, symbol table", "result      functions, inlined"]);
    assert!(!text.contains("next step"), "{text}");

    let link = "--add-gnu-debuglink=app.debug";
    let mut objcopy = Command::new("objcopy");
    succeed(objcopy.current_dir(place.path()).args(["-S", link]).arg(&program));
    let found = format!("looked at   {}: DWARF, symbol table", debug.display());
    let (text, _, _) = debuginfo(&[path(&program)]);
    assert_has(&text, &["/usr/lib/debug/.build-id/", ".debug: nothing", &found, "functions, inl"]);

    fs::copy(compile_with("named.c", place.path(), "other", &["-Wl,--build-id"]), &debug).unwrap();
    let (text, _, _) = debuginfo(&[path(&program)]);
    assert_has(&text, &["app.debug: of another build, not used", "next step   put its debug info"]);
    fs::remove_file(&debug).unwrap();
    let (text, _, _) = debuginfo(&["/usr/bin/sleep"]);
    assert_has(&text, &["result      exported functions alone", "install coreutils-dbgsym"]);
}

#[test]
fn processes_and_profiles_list_their_files() {
    let _alone = alone();
    let place = directory();
    let program = compile_with("chain.c", place.path(), "app", &["-Wl,--build-id"]);
    let running = Running::start(&program);
    let (text, is_success, _) = debuginfo(&[&running.pid()]);
    assert!(is_success);
    assert_has(&text, &[path(&program), "libc.so.6", "DWARF"]);
    let recorded = record(&["-F", "99", "-d", "1", "-p", &running.pid()]).succeeded();
    let profile = recorded.pprof_path();
    let (text, is_success, _) = debuginfo(&[path(&profile)]);
    assert!(is_success);
    assert_has(&text, &[path(&program), "functions, inlined functions and lines"]);
    drop(running);
    fs::remove_file(&program).unwrap();
    let (text, _, _) = debuginfo(&[path(&profile)]);
    assert_has(&text, &["problem     the file is not here", "/usr/lib/debug/.build-id/"]);
    compile_with("named.c", place.path(), "app", &["-Wl,--build-id"]);
    let (text, _, _) = debuginfo(&[path(&profile)]);
    assert_has(&text, &["problem     the file here is of another build"]);
}

#[test]
fn what_is_neither_is_one_clear_error() {
    let place = directory();
    let text_file = place.path().join("text");
    fs::write(&text_file, "no profile").unwrap();
    let cases = [
        (path(&text_file), "neither an ELF file nor a profile"),
        ("/nowhere/x", "cannot open it: No such file"),
        ("/dev/null", "cannot open it"),
        ("999999999", "cannot read the mappings of a process"),
        ("2", "a kernel thread has none"),
    ];
    for (target, expected) in cases {
        let (text, is_success, errors) = debuginfo(&[target, "/usr/bin/sleep"]);
        assert!(!is_success);
        assert_has(&errors, &[&format!("everytick: {target}: "), expected]);
        assert_has(&text, &["/usr/bin/sleep"]); // the others are shown
    }
}
