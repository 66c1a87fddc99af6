//! `everytick runtimes` shows the interpreter of a process, whatever its file is called.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::Command;

use common::{Running, alone, directory, everytick};

const PYTHON: &str = "/usr/bin/python3";
const WAITS: &str = "import time; time.sleep(600)";

/// Runs `everytick runtimes`. Returns whether it succeeds, and what it prints to both outputs.
fn runtimes(pids: &[String]) -> (bool, String, String) {
    let output = everytick().arg("runtimes").args(pids).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn interpreter_is_shown_with_its_version() {
    // A program that another test starts meanwhile would hold the copy open for writing.
    let _alone = alone();
    let place = directory();
    let copy = place.path().join("worker");
    fs::copy(PYTHON, &copy).unwrap();
    let mut command = Command::new(&copy);
    let python = Running(command.args(["-c", WAITS]).env("PYTHONHOME", "/usr").spawn().unwrap());
    let sleep = Running(Command::new("sleep").arg("600").spawn().unwrap());
    let version = Command::new(PYTHON).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap().replace("Python", "CPython");

    let pids = [python.pid(), sleep.pid()];
    let mut shown = runtimes(&pids);
    while !shown.1.contains("worker") {
        shown = runtimes(&pids); // it has not executed its program yet
    }
    let (is_success, text, errors) = shown;
    assert!(is_success, "{text}{errors}");
    assert!(text.contains(&format!("runtime     {}", version.trim())), "{text}");
    assert!(text.contains("glibc"), "{text}");
    assert_eq!(text.matches("none that is known").count(), 1, "{text}");
    let (_, all, _) = runtimes(&[]);
    assert!(all.contains(&format!("{} worker", python.pid())), "{all}");
    assert!(!all.contains(&format!("{} sleep", sleep.pid())), "{all}");
}

#[test]
fn process_that_does_not_exist_is_an_error() {
    let _alone = alone();
    let (is_success, text, errors) = runtimes(&["4194300".into()]);
    assert!(!is_success && text.is_empty(), "{text}");
    assert!(errors.contains("process 4194300: cannot read the mappings"), "{errors}");
}
