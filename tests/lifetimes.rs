//! Processes that come and go: commands with children, programs that end before symbolization.
#![allow(clippy::unwrap_used)]

mod common;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::lines::Lines;
use common::{
    Recording, Running, alone, compile, compile_with, directory, everytick, pause, record,
    wait_until,
};
use rustix::process::Signal;

#[test]
fn self_deleting_program_of_300_ms_is_symbolized() {
    let _alone = alone();
    let temp = directory();
    let program = compile("brief.c", temp.path(), "brief");
    let recording = Recording::start(&["-F", "499", "--comm", "brief"]);
    let status = Command::new(&program).status().unwrap();
    assert_eq!(status.code(), Some(3));
    assert!(!program.exists());
    let recorded = recording.stop().succeeded();
    let all = recorded.samples_through(&["brief"]);
    let whole = recorded.samples_through(&["brief", "main", "brief_work"]);
    assert!(all > 80, "only {all} samples\n{}", recorded.stderr);
    assert!(whole * 100 >= all * 95, "{whole} of {all} whole: {:#?}", recorded.folded());
}

#[test]
fn command_is_profiled_with_children_and_its_status_returned() {
    let _alone = alone();
    let temp = directory();
    let brief = compile("brief.c", temp.path(), "brief");
    let threads = compile("threads.c", temp.path(), "threads");
    let bystander = Running::start(&compile("chain.c", temp.path(), "bystander"));
    let script = format!("{} & timeout 1.2 {}; wait; exit 7", brief.display(), threads.display());
    let recorded = record(&["-F", "499", "--by", "thread", "--", "sh", "-c", &script]);
    drop(bystander);
    assert_eq!(recorded.status, 7, "{}", recorded.stderr);
    assert!(
        recorded.samples_through(&["brief", "brief", "main", "brief_work"]) > 30,
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

/// Until COMMAND is executed, its process runs our code.
#[test]
fn recording_of_a_command_has_no_process_of_ours() {
    let _alone = alone();
    let scripts = ["for k in 1 2 3 4 5 6; do /bin/true; done", "exec /bin/true", ":"];
    for script in scripts.iter().cycle().take(9) {
        let recorded = record(&["-F", "4999", "--", "bash", "-c", script]).succeeded();
        let stacks = recorded.folded();
        let of_command = |stack: &[String]| ["bash", "true"].contains(&&*stack[0]);
        assert!(stacks.iter().all(|(stack, _)| of_command(stack)), "{stacks:#?}");
    }
}

#[test]
fn status_of_a_killed_command_is_128_plus_signal() {
    let _alone = alone();
    let recorded = record(&["--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(recorded.status, 137, "{}", recorded.stderr);
    assert!(recorded.pprof_path().exists());
}

#[test]
fn command_that_cannot_run_reports_and_writes_nothing() {
    let _alone = alone();
    let recorded = record(&["--", "/nowhere/program"]);
    assert_eq!(recorded.status, 1);
    let expected =
        "everytick: cannot run /nowhere/program; check its name and permissions: No such file";
    assert!(recorded.stderr.contains(expected), "{}", recorded.stderr);
    assert_eq!(recorded.directory.path().read_dir().unwrap().count(), 0);
}

#[test]
fn sigint_and_sigterm_finish_and_write() {
    let _alone = alone();
    for stop in [Signal::INT, Signal::TERM] {
        let recording = Recording::start(&[]);
        recording.signal(stop);
        let recorded = recording.finish().succeeded();
        assert!(recorded.stderr.contains("wrote         out.pb.gz"), "{}", recorded.stderr);
        assert_eq!(recorded.directory.path().read_dir().unwrap().count(), 2);
    }
}

#[test]
fn duration_ends_the_recording_and_its_command() {
    let _alone = alone();
    let recorded = record(&["-d", "0.5", "--", "sleep", "600"]).succeeded();
    assert!(recorded.stderr.contains("for 500ms, then terminating sleep"), "{}", recorded.stderr);
}

#[test]
fn sigkill_leaves_neither_files_nor_programs() {
    let _alone = alone();
    let recording = Recording::start(&[]);
    assert!(programs_loaded() > 0, "bpftool does not show the running sampler");
    let directory = recording.kill();
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    wait_until_unloaded();
}

#[test]
fn recording_unloads_its_programs() {
    let _alone = alone();
    record(&["-d", "0.2", "--", "sleep", "0.1"]).succeeded();
    wait_until_unloaded();
}

/// The kernel frees programs after a grace period.
fn wait_until_unloaded() {
    wait_until("the programs to be unloaded", || programs_loaded() == 0);
}

/// Counts our programs that are loaded.
fn programs_loaded() -> usize {
    let output =
        Command::new("bpftool").args(["prog", "show"]).output().expect("bpftool is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    let ours = ["perf_event  name sample", "raw_tracepoint  name follow"];
    text.lines().filter(|line| ours.iter().any(|name| line.contains(name))).count()
}

#[test]
fn lost_process_events_are_counted_and_recovered() {
    let _alone = alone();
    let temp = directory();
    let path = |path: PathBuf| path.to_str().unwrap().to_owned();
    let [one, two] = [3, 4].map(|number| {
        let define = format!("-DNUMBER={number}");
        path(compile_with("churn/turns.c", temp.path(), &format!("turns{number}"), &[&define]))
    });
    let storm = path(compile_with("churn/children.c", temp.path(), "children", &["-DNUMBER=5"]));
    let chain = compile("chain.c", temp.path(), "chain");
    let recording = Recording::start(&["-F", "499", "--side-band-size", "4KiB"]);
    let mut storms: Vec<_> =
        (0..4).map(|_| Command::new(&storm).args(["300", &one, &two]).spawn().unwrap()).collect();
    // Nothing reads the ring for a while, so the events of these processes are lost, too.
    recording.signal(Signal::STOP);
    pause(300);
    let running: Vec<Running> = (0..3).map(|_| Running::start(&chain)).collect();
    pause(100);
    recording.signal(Signal::CONT);
    storms.iter_mut().for_each(|storm| assert!(storm.wait().unwrap().success()));
    pause(3500);
    let recorded = recording.stop().succeeded();
    drop(running);

    let note = recorded.stderr.lines().find(|line| line.contains("process events lost"));
    let lost: u64 =
        note.unwrap().split_whitespace().nth(1).unwrap().replace(',', "").parse().unwrap();
    assert!(lost > 10, "{}", recorded.stderr);
    let all = recorded.samples_through(&["chain"]);
    let whole = recorded.samples_through(&["chain", "_start", "main", "a", "b", "c", "spin"]);
    assert!(all > 500 && whole * 100 > all * 95, "{whole} of {all} whole\n{}", recorded.stderr);
}

#[test]
fn exited_processes_leave_the_kernel_maps() {
    let _alone = alone();
    let temp = directory();
    let define = |number| format!("-DNUMBER={number}");
    let turns = compile_with("churn/turns.c", temp.path(), "turns", &[&define(3)]);
    let parent = compile_with("churn/children.c", temp.path(), "children", &[&define(5)]);
    let recording = Recording::start(&["-F", "997"]);
    let storm = Command::new(&parent).arg("500").arg(&turns).arg(&turns).status().unwrap();
    assert!(storm.success());
    for map in ["processes", "stamps"] {
        wait_until("exited processes to leave", || {
            pause(1500); // bpftool itself is kept for a second after its exit
            let (running, gone) = count_elements(map);
            assert!(running > 0 || map == "stamps", "{map} is empty");
            gone <= 2 // some may be exiting just now
        });
    }
    let recorded = recording.stop().succeeded();
    assert!(recorded.samples_through(&["turns", "main", "a_3"]) > 100, "{}", recorded.stderr);
}

/// Counts the elements of a map of the sampler by their processes: running ones, and exited ones.
fn count_elements(map: &str) -> (usize, usize) {
    let output = Command::new("bpftool").args(["-j", "map", "dump", "name", map]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let keys = text.split("\"formatted\":{\"key\":").skip(1);
    let pids = keys.map(|rest| rest.split(',').next().unwrap().parse::<u32>().unwrap());
    let is_running = |pid: &u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
    let (running, gone): (Vec<u32>, Vec<u32>) = pids.partition(is_running);
    (running.len(), gone.len())
}

/// Time that a command takes which is not waited for.
const COMMAND_TIME: Duration = Duration::from_secs(60);

/// On a terminal, because a signal from elsewhere is no person's decision not to wait.
#[test]
fn second_ctrl_c_on_a_terminal_does_not_wait_for_the_command() {
    let _alone = alone();
    let temp = directory();
    let everytick = everytick().get_program().to_str().unwrap().to_owned();
    let seconds = COMMAND_TIME.as_secs();
    let line = format!("{everytick} record -- sh -c \"trap '' INT; sleep {seconds}\"");
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &line, "/dev/null"]).current_dir(temp.path());
    let mut terminal = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    let mut keys = terminal.stdin.take().unwrap();
    let screen = Lines::of(terminal.stdout.take().unwrap());
    let shows = |text: &str| screen.text().contains(text);
    wait_until("the recording", || shows("profiling"));
    keys.write_all(b"\x03").unwrap();
    wait_until("the recording to wait", || shows("waiting for the command"));
    keys.write_all(b"\x03").unwrap();
    let status = terminal.wait().unwrap();
    assert_eq!(status.code(), Some(128 + 2), "it ends by SIGINT");
    assert!(started.elapsed() < COMMAND_TIME, "it does not wait for its command");
    assert!(temp.path().join("everytick.pb.gz").exists());
    let shown = screen.finish();
    assert!(shown.contains("not waiting for the command"), "{shown}");
}
