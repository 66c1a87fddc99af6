//! Text that is not where the kernel said that it was mapped: moved by mremap, copied into memory
//! without a file, replaced. It has the names and rows of its file, or none.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
use std::path::{Path, PathBuf};

use common::{Recorded, Recording, Running, alone, compile_with, directory, pause, record};

fn program(dir: &Path, flags: &[&str]) -> PathBuf {
    let flags = [&["-O2", "-fomit-frame-pointer"], flags].concat();
    compile_with("churn/moved.c", dir, "moved", &flags)
}

/// Runs a program up to three times, until its mappings could be read in time: on a busy machine
/// they may not, and then its stacks are cut.
fn run_until_read(program: &Path, arguments: &[&str]) -> Recorded {
    let is_unread = |recorded: &Recorded| {
        let stacks = recorded.folded();
        stacks.iter().flat_map(|(stack, _)| stack).any(|frame| frame == "[cut: mappings not read]")
    };
    let recorded = run(program, arguments);
    let again = |recorded| if is_unread(&recorded) { run(program, arguments) } else { recorded };
    again(again(recorded))
}

/// Asserts that nearly all samples of `caller` are of this leaf, none of the other, and that all
/// stacks are complete.
fn check(recorded: &Recorded, what: &str, leaf: &str, other: &str, root: &str) {
    let count = |frames: &[&str]| recorded.samples_through(frames);
    let (all, right) = (count(&["caller"]), count(&[root, "caller", leaf]));
    println!("{what}: {right} of {all}");
    assert!(right > 50 && right * 10 >= all * 9, "{what}: {:#?}", recorded.folded());
    assert_eq!(count(&[other]), 0, "{what}: {:#?}", recorded.folded());
    let cut = recorded.folded().iter().any(|(stack, _)| {
        stack.iter().any(|frame| frame == "caller") && stack.iter().any(|f| f.starts_with("[cut"))
    });
    assert!(!cut, "{what}: {:#?}", recorded.folded());
}

fn run(program: &Path, arguments: &[&str]) -> Recorded {
    let command = ["-F", "499", "--no-kernel", "--", program.to_str().unwrap()];
    record(&[&command[..], arguments].concat()).succeeded()
}

#[test]
fn moved_and_copied_text_has_the_names_of_its_file() {
    let _alone = alone();
    let dir = directory();
    for flags in [&["-fno-pie", "-no-pie"][..], &["-fPIE", "-pie"], &["-fuse-ld=gold"]] {
        let program = program(dir.path(), flags);
        for mode in ["over", "away", "copy", "swap", "split"] {
            let (leaf, other) = match mode {
                "over" => ("other_leaf", "hot_leaf"),
                _ => ("hot_leaf", "other_leaf"),
            };
            let what = format!("{mode} {flags:?}");
            check(&run_until_read(&program, &[mode]), &what, leaf, other, "main");
        }
    }
}

#[test]
fn text_changes_after_the_main_thread_has_exited() {
    let _alone = alone();
    let dir = directory();
    let program = program(dir.path(), &[]);
    for mode in ["away", "swap"] {
        check(&run_until_read(&program, &[mode, "thread"]), mode, "hot_leaf", "other_leaf", "work");
    }
}

#[test]
fn other_code_in_the_place_of_text_has_no_name_of_it() {
    let _alone = alone();
    let dir = directory();
    let recorded = run(&program(dir.path(), &[]), &["other"]);
    assert!(recorded.samples_through(&["moved"]) > 50, "{}", recorded.stderr);
    for name in ["hot_leaf", "other_leaf"] {
        assert_eq!(recorded.samples_through(&[name]), 0, "{:#?}", recorded.folded());
    }
}

#[test]
fn text_that_was_copied_before_the_recording_has_its_names() {
    let _alone = alone();
    let dir = directory();
    let define = ["-DSECONDS=20.0"];
    let program = program(dir.path(), &define);
    for arguments in [&["swap"][..], &["copy"], &["swap", "thread"]] {
        let arguments: Vec<PathBuf> = arguments.iter().map(PathBuf::from).collect();
        let running = Running::start_with(&program, &arguments);
        pause(500);
        let recorded = record(&["-F", "499", "--no-kernel", "-d", "1", "-p", &running.pid()]);
        let what = format!("{arguments:?}");
        let root = if arguments.len() == 1 { "main" } else { "work" };
        check(&recorded.succeeded(), &what, "hot_leaf", "other_leaf", root);
    }
}

/// A chain of callers that leads astray is followed by the agent now and then, not in each tick.
#[test]
fn steps_out_of_all_mappings_seldom_take_a_snapshot() {
    let _alone = alone();
    let dir = directory();
    let program = compile_with("astray.S", dir.path(), "astray", &["-nostdlib", "-no-pie"]);
    let recording = Recording::start(&["-F", "1997", "--no-kernel", "--comm", "astray"]);
    let running = Running::start(&program);
    pause(3000);
    drop(running);
    let recorded = recording.stop().succeeded();
    let all = recorded.samples_through(&["astray"]);
    let finished = recorded.stderr.split_once(" finished in user space").unwrap().0;
    let finished: String = finished.split("; ").last().unwrap().replace(',', "");
    let finished: u64 = finished.split_whitespace().next().unwrap().parse().unwrap();
    println!("{finished} of {all} stacks were finished from a snapshot");
    assert!(all > 1000 && finished * 4 < all, "{finished} of {all}\n{}", recorded.stderr);
    assert_eq!(recorded.samples_through(&["[cut: address outside code]", "lead_astray"]), all);
}
