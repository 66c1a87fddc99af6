//! Processes that come and go: commands with children, programs that are gone before they are named.
#![allow(clippy::unwrap_used)]

mod common;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::{
    Running, alone, compile, compile_with, directory, everytick, pause, record, recorded, signal,
    start_record,
};
use rustix::process::Signal;

#[test]
fn a_program_that_unlinks_itself_and_lives_300_ms_has_named_stacks() {
    let _alone = alone();
    let place = directory();
    let program = compile("brief.c", place.path(), "brief");
    let output = directory();
    let child = start_record(output.path(), &["-F", "499", "-d", "2", "--comm", "brief"]);
    pause(800);
    let status = Command::new(&program).status().unwrap();
    assert_eq!(status.code(), Some(3));
    assert!(!program.exists());
    let recorded = recorded(output, child.wait_with_output().unwrap()).succeeded();
    let all = recorded.samples_through(&["brief"]);
    let named = recorded.samples_through(&["brief", "main", "brief_work"]);
    assert!(all > 80, "only {all} samples\n{}", recorded.stderr);
    assert!(named * 100 >= all * 95, "{named} of {all}: {:#?}", recorded.folded());
}

#[test]
fn a_command_is_profiled_with_its_children_and_threads_and_its_status_is_passed_on() {
    let _alone = alone();
    let place = directory();
    let brief = compile("brief.c", place.path(), "brief");
    let threads = compile("threads.c", place.path(), "threads");
    let bystander = Running::start(&compile("chain.c", place.path(), "bystander"));
    let script = format!("{} & timeout 1.2 {}; wait; exit 7", brief.display(), threads.display());
    let recorded = record(&["-F", "499", "--by", "thread", "--", "sh", "-c", &script]);
    drop(bystander);
    assert_eq!(recorded.status, 7, "{}", recorded.stderr);
    assert!(
        recorded.samples_through(&["brief", "brief", "main", "brief_work"]) > 80,
        "{:#?}",
        recorded.folded()
    );
    assert!(
        recorded.samples_through(&["threads", "late", "late_work"]) > 100,
        "{:#?}",
        recorded.folded()
    );
    assert_eq!(recorded.samples_through(&["bystander"]), 0);
}

#[test]
fn a_command_that_a_signal_kills_gives_128_and_its_number() {
    let _alone = alone();
    let recorded = record(&["--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(recorded.status, 137, "{}", recorded.stderr);
    assert!(recorded.pprof_path().exists());
}

#[test]
fn a_command_that_cannot_be_run_is_one_sentence_and_no_file() {
    let _alone = alone();
    let recorded = record(&["--", "/nowhere/program"]);
    assert_eq!(recorded.status, 1);
    let expected =
        "everytick: cannot run /nowhere/program; check its name and permissions: No such file";
    assert!(recorded.stderr.contains(expected), "{}", recorded.stderr);
    assert_eq!(recorded.directory.path().read_dir().unwrap().count(), 0);
}

#[test]
fn ctrl_c_and_sigterm_finish_and_write() {
    let _alone = alone();
    for stop in [Signal::INT, Signal::TERM] {
        let place = directory();
        let child = start_record(place.path(), &[]);
        pause(1000);
        signal(&child, stop);
        let recorded = recorded(place, child.wait_with_output().unwrap()).succeeded();
        assert!(recorded.stderr.contains("wrote         out.pb.gz"), "{}", recorded.stderr);
        assert_eq!(recorded.directory.path().read_dir().unwrap().count(), 2);
    }
}

#[test]
fn the_duration_ends_a_recording_but_not_its_command() {
    let _alone = alone();
    let place = directory();
    let child = start_record(place.path(), &["-d", "0.5", "--", "sh", "-c", "sleep 2; exit 5"]);
    pause(1500);
    assert!(
        place.path().join("out.pb.gz").exists(),
        "the file is written at the end of the duration"
    );
    let recorded = recorded(place, child.wait_with_output().unwrap());
    assert_eq!(recorded.status, 5, "{}", recorded.stderr);
}

#[test]
fn killed_with_9_it_leaves_neither_files_nor_programs() {
    let _alone = alone();
    let place = directory();
    let mut child = start_record(place.path(), &[]);
    pause(700);
    assert!(programs_loaded() > 0, "bpftool must see the running sampler");
    child.kill().unwrap();
    child.wait().unwrap();
    pause(300); // the kernel frees programs after a grace period
    assert_eq!(place.path().read_dir().unwrap().count(), 0);
    assert_eq!(programs_loaded(), 0);
}

#[test]
fn nothing_is_left_loaded_after_a_recording() {
    let _alone = alone();
    record(&["-d", "0.2", "--", "sleep", "0.1"]).succeeded();
    pause(300);
    assert_eq!(programs_loaded(), 0);
}

/// Our programs that the kernel has loaded.
fn programs_loaded() -> usize {
    let output =
        Command::new("bpftool").args(["prog", "show"]).output().expect("bpftool is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    let ours = ["perf_event  name sample", "raw_tracepoint  name follow"];
    text.lines().filter(|line| ours.iter().any(|name| line.contains(name))).count()
}

#[test]
fn process_events_that_find_no_room_are_counted_and_made_up_for() {
    let _alone = alone();
    let place = directory();
    let path = |path: PathBuf| path.to_str().unwrap().to_owned();
    let [one, two] = [3, 4].map(|number| {
        let define = format!("-DNUMBER={number}");
        path(compile_with("churn/turns.c", place.path(), &format!("turns{number}"), &[&define]))
    });
    let storm = path(compile_with("churn/children.c", place.path(), "children", &["-DNUMBER=5"]));
    let chain = compile("chain.c", place.path(), "chain");
    let output = directory();
    let child = start_record(output.path(), &["-F", "499", "-d", "6", "--side-band-size", "4"]);
    pause(1000);
    let mut storms: Vec<_> =
        (0..4).map(|_| Command::new(&storm).args(["300", &one, &two]).spawn().unwrap()).collect();
    // Nobody reads for a while: what the kernel tells of these is among what is lost.
    signal(&child, Signal::STOP);
    pause(300);
    let running: Vec<Running> = (0..3).map(|_| Running::start(&chain)).collect();
    pause(100);
    signal(&child, Signal::CONT);
    storms.iter_mut().for_each(|storm| assert!(storm.wait().unwrap().success()));
    let recorded = recorded(output, child.wait_with_output().unwrap()).succeeded();
    drop(running);

    let note = recorded.stderr.lines().find(|line| line.contains("process events lost"));
    let lost: u64 =
        note.unwrap().split_whitespace().nth(1).unwrap().replace(',', "").parse().unwrap();
    assert!(lost > 10, "{}", recorded.stderr);
    let all = recorded.samples_through(&["chain"]);
    let named = recorded.samples_through(&["chain", "_start", "main", "a", "b", "c", "spin"]);
    assert!(all > 500 && named * 100 > all * 95, "{named} of {all}\n{}", recorded.stderr);
}

#[test]
fn what_has_exited_leaves_nothing_in_the_maps_of_the_kernel() {
    let _alone = alone();
    let place = directory();
    let define = |number| format!("-DNUMBER={number}");
    let turns = compile_with("churn/turns.c", place.path(), "turns", &[&define(3)]);
    let parent = compile_with("churn/children.c", place.path(), "children", &[&define(5)]);
    let output = directory();
    let child = start_record(output.path(), &["-F", "997", "-d", "6"]);
    pause(1000);
    let storm = Command::new(&parent).arg("500").arg(&turns).arg(&turns).status().unwrap();
    assert!(storm.success());
    pause(2500);
    for map in ["processes", "stamps"] {
        let (there, gone) = kept_of(map);
        assert!(there > 0 || map == "stamps", "{map} is empty");
        assert!(gone <= 2, "{gone} processes that are gone are in {map}"); // one may just be going
    }
    let recorded = recorded(output, child.wait_with_output().unwrap()).succeeded();
    assert!(recorded.samples_through(&["turns", "main", "a_3"]) > 100, "{}", recorded.stderr);
}

/// Counts the processes that a map of the sampler has an element for: those that are there, and those that are not.
fn kept_of(map: &str) -> (usize, usize) {
    let output = Command::new("bpftool").args(["-j", "map", "dump", "name", map]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let keys = text.split("\"formatted\":{\"key\":").skip(1);
    let pids = keys.map(|rest| rest.split(',').next().unwrap().parse::<u32>().unwrap());
    let is_there = |pid: &u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
    let (there, gone): (Vec<u32>, Vec<u32>) = pids.partition(is_there);
    (there.len(), gone.len())
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let _alone = alone();
    let place = directory();
    let mut command = everytick();
    command.args(["record", "--", "sh", "-c", "trap '' INT; sleep 3"]).current_dir(place.path());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    pause(700);
    signal(&child, Signal::INT);
    pause(1000);
    signal(&child, Signal::INT);
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2));
}
