//! What ends a recording or an agent and what does not: signals, limits, the end of its processes.
#![allow(clippy::unwrap_used)]

mod common;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use common::agent::{Agent, read};
use common::lines::Lines;
use common::recording::is_sampling;
use common::{
    Recording, Running, alone, compile, directory, everytick, pause, record, signal, wait_until,
};
use rustix::process::{Pid, Signal, kill_process};

/// Real-time signals have no name in rustix.
const REAL_TIME: [i32; 3] = [34, 40, 64];

/// Sends signals with pauses of `between` milliseconds, and checks that the files are written.
fn check_stops(signals: &[Signal], between: u64) {
    let recording = Recording::start(&["-F", "99"]);
    pause(200);
    for one in signals {
        // It may have ended after the signals before.
        let _ = kill_process(Pid::from_raw(recording.pid() as i32).unwrap(), *one);
        pause(between);
    }
    let recorded = recording.finish();
    assert!([0, 3].contains(&recorded.status), "{}", recorded.stderr);
    assert_eq!(recorded.ledger()["aggregated"] > 0, !recorded.folded().is_empty());
}

#[test]
fn terminal_that_closes_leaves_a_recording() {
    let _alone = alone();
    check_stops(&[Signal::HUP, Signal::HUP], 0);
    check_stops(&[Signal::HUP, Signal::HUP, Signal::HUP], 100);
    check_stops(&[Signal::HUP, Signal::TERM], 20);
    check_stops(&[Signal::HUP, Signal::INT, Signal::INT], 600);
    check_stops(&[Signal::TERM, Signal::TERM], 0);
    check_stops(&[Signal::QUIT, Signal::HUP], 20);
}

#[test]
fn signals_that_ask_nothing_end_no_recording() {
    let _alone = alone();
    let recording = Recording::start(&["-F", "99"]);
    let pid = Pid::from_raw(recording.pid() as i32).unwrap();
    for one in
        [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::VTALARM, Signal::PROF, Signal::PIPE]
    {
        kill_process(pid, one).unwrap();
    }
    for one in [Signal::IO, Signal::POWER, Signal::XFSZ, Signal::STKFLT] {
        kill_process(pid, one).unwrap();
    }
    kill_by_number(recording.pid(), &REAL_TIME);
    pause(500);
    kill_process(pid, Signal::TERM).unwrap();
    assert!([0, 3].contains(&recording.finish().status));
}

#[test]
fn signals_that_ask_nothing_end_no_agent() {
    let _alone = alone();
    let mut agent = Agent::start("frequency = 19");
    agent.wait_for_windows(1);
    for one in [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::XFSZ, Signal::PROF, Signal::IO] {
        agent.signal(one);
    }
    kill_by_number(agent.child.as_ref().unwrap().id(), &REAL_TIME);
    agent.wait_for_windows(agent.windows().len() + 2);
    agent.signal(Signal::TERM);
    agent.signal(Signal::TERM); // twice, as a terminal or a manager may send it
    let status = agent.child.take().unwrap().wait().unwrap();
    assert_eq!(status.code(), Some(0), "{}", agent.log());
    assert!(agent.log().contains("stopped"), "{}", agent.log());
}

fn kill_by_number(pid: u32, signals: &[i32]) {
    for number in signals {
        let kill = Command::new("kill").args([format!("-{number}"), pid.to_string()]).status();
        assert!(kill.unwrap().success());
    }
}

/// A program that is executed starts with the default of each signal.
#[test]
fn command_inherits_no_ignored_signal() {
    let _alone = alone();
    let directory = directory();
    let command = ["record", "-q", "-o", "x.folded", "--", "cat", "/proc/self/status"];
    let output = everytick().args(command).current_dir(directory.path()).output().unwrap();
    let status = String::from_utf8(output.stdout).unwrap();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    let internal = 0b11 << 31; // 32 and 33 are the C library's, which ignores them in posix_spawn
    assert_eq!(ignored(&status) & !ignored(&own) & !internal, 0, "{status}");
}

#[test]
fn hangup_stays_ignored_under_nohup() {
    let _alone = alone();
    let directory = directory();
    let program = env!("CARGO_BIN_EXE_everytick");
    let script = format!("trap '' HUP; exec {program} record -q -F 99 -d 2 -o out.pb.gz");
    let mut shell = Command::new("sh");
    let mut child = shell.args(["-c", &script]).current_dir(directory.path()).spawn().unwrap();
    wait_until("the recording", || is_sampling(child.id()));
    signal(&child, Signal::HUP);
    assert_eq!(child.wait().unwrap().signal(), None);
    let recorded = read(&directory.path().join("out.pb.gz"));
    let seconds = recorded.duration_nanos as f64 / 1e9;
    assert!(seconds > 1.9, "the signal has stopped it after {seconds} s");
}

#[test]
fn recording_ends_with_its_last_process() {
    let _alone = alone();
    let place = directory();
    let program = compile("chain.c", place.path(), "chain");
    let (first, second) = (Running::start(&program), Running::start(&program));
    let arguments = ["-F", "99", "-p", &first.pid(), "-p", &second.pid()];
    let mut recording = Recording::start(&arguments);
    wait_until("its first line", || recording.stderr().contains("until they exit"));
    pause(700);
    drop(first);
    pause(700);
    assert!(recording.is_running(), "one process still runs");
    drop(second);
    let recorded = recording.finish();
    assert!([0, 3].contains(&recorded.status), "{}", recorded.stderr);
    assert!(recorded.samples_through(&["main", "a", "b", "c"]) >= 10, "{}", recorded.stderr);
}

#[test]
fn quiet_recording_reports_its_loss() {
    let _alone = alone();
    let place = directory();
    let program = compile("chain.c", place.path(), "busy");
    let cpus = std::thread::available_parallelism().unwrap().get();
    let _load: Vec<_> = (0..cpus).map(|_| Running::start(&program)).collect();
    let recording = Recording::start(&["-q", "-F", "999", "--ring-size", "16KiB"]);
    pause(500);
    recording.signal(Signal::STOP);
    pause(2000);
    recording.signal(Signal::CONT);
    pause(500);
    let recorded = recording.stop();
    assert_eq!(recorded.status, 3, "{}", recorded.stderr);
    let lost = recorded.ledger()["lost"];
    let lines: Vec<&str> = recorded.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("samples lost") && lines[0].contains("ring full"), "{lines:?}");
    assert!(lost > 100, "{lines:?}");
}

#[test]
fn limit_on_file_size_is_an_error_with_the_next_step() {
    let _alone = alone();
    let directory = directory();
    let script = format!(
        "ulimit -f 0; exec {} record -q -F 99 -d 1 -o out.svg",
        env!("CARGO_BIN_EXE_everytick")
    );
    let output =
        Command::new("sh").args(["-c", &script]).current_dir(directory.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{:?} {stderr}", output.status);
    assert!(stderr.contains("cannot write out.svg: File too large"), "{stderr}");
    assert!(stderr.contains("ulimit -f"), "{stderr}");
    assert_eq!(directory.path().read_dir().unwrap().count(), 0, "a part of a file is left");
}

/// The log goes to a pipe: a file would be limited too.
#[test]
fn limit_on_file_size_is_a_full_disk_to_the_agent() {
    let _alone = alone();
    let agent = Agent { place: directory(), child: None };
    agent.configure("frequency = 99");
    let script = format!(
        "ulimit -f 1; exec {} agent --config {}",
        env!("CARGO_BIN_EXE_everytick"),
        agent.config().display()
    );
    let mut shell = Command::new("sh");
    let mut child = shell.args(["-c", &script]).stderr(Stdio::piped()).spawn().unwrap();
    let lines = Lines::of(child.stderr.take().unwrap());
    let is_full = |log: &str| log.contains("File too large") && log.contains("ulimit -f");
    wait_until("a window that cannot be written", || is_full(&lines.text()));
    signal(&child, Signal::TERM);
    let status = child.wait().unwrap();
    let log = lines.finish();
    assert_eq!(status.signal(), None, "killed: {log}");
    // A busy machine may not stop it in good order in time.
    let ends = ["stopped", "ended at the deadline of the stop"];
    assert!(ends.iter().any(|end| log.contains(end)), "{log}");
    assert_eq!(agent.windows().len(), 0, "{log}");
}

/// Names of a program, of its file and of its functions reach the terminal as text.
#[test]
fn control_characters_are_escaped_on_the_terminal() {
    let _alone = alone();
    let place = directory();
    let name = "e\x1b]0;title\x07\nroot# ";
    compile("chain.c", place.path(), name);
    let program = place.path().join(name);
    let program = program.to_str().unwrap();
    let recorded = record(&["-F", "99", "--", "timeout", "2", program]);
    let active: Vec<char> =
        recorded.stderr.chars().filter(|c| c.is_control() && *c != '\n').collect();
    assert_eq!(active, [], "{:?}", recorded.stderr);
    assert!(recorded.stderr.contains("e\\u{1b}]0;title"), "{}", recorded.stderr);
    assert!(!recorded.stderr.contains("\nroot#"), "{}", recorded.stderr);

    let other = place.path().join("a\x1bb");
    fs::copy("/bin/true", &other).unwrap();
    let announced = record(&["-F", "99", "--", other.to_str().unwrap()]);
    assert!(
        announced.stderr.contains("a\\u{1b}b and its descendants at 99 Hz"),
        "{:?}",
        announced.stderr
    );
    assert!(!announced.stderr.contains('\x1b'), "{:?}", announced.stderr);

    let unwind = everytick().args(["unwind", program, "/no\x1bthing"]).output().unwrap();
    for bytes in [&unwind.stdout, &unwind.stderr] {
        assert!(!bytes.contains(&0x1b), "{:?}", String::from_utf8_lossy(bytes));
    }
}
