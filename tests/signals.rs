//! What ends a recording or an agent and what does not: signals, limits, the end of its processes.
#![allow(clippy::unwrap_used)]

mod common;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::agent::Agent;
use common::{
    Recorded, Running, TempDir, alone, compile, directory, everytick, pause, record, recorded,
    signal,
};
use rustix::process::{Pid, Signal, kill_process};

/// Real-time signals have no name in rustix.
const REAL_TIME: [i32; 3] = [34, 40, 64];

/// Starts a recording of a program, and waits until it samples.
fn start(arguments: &[&str]) -> (TempDir, Child) {
    let directory = directory();
    let stderr = fs::File::create(directory.path().join("stderr")).unwrap();
    let child = everytick()
        .args(["record", "-F", "99", "-o", "out.pb.gz", "-o", "out.folded"])
        .args(arguments)
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .unwrap();
    wait_for("the recording", || text(directory.path()).contains("profiling"));
    pause(300);
    (directory, child)
}

fn text(directory: &Path) -> String {
    fs::read_to_string(directory.join("stderr")).unwrap()
}

fn wait_for(what: &str, is_true: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} did not come");
        pause(50);
    }
}

/// Waits for the end of a recording, which must be by itself. Returns it.
fn finished((directory, mut child): (TempDir, Child)) -> Recorded {
    let status: ExitStatus = child.wait().unwrap();
    assert_eq!(status.signal(), None, "killed: {}", text(directory.path()));
    let stderr = text(directory.path());
    Recorded { directory, status: status.code().unwrap(), stderr }
}

/// Sends signals with pauses of `between` milliseconds, and checks that the files are written.
fn check_stops(signals: &[Signal], between: u64) {
    let recording = start(&[]);
    for one in signals {
        // It may have ended after the signals before.
        let _ = kill_process(Pid::from_raw(recording.1.id() as i32).unwrap(), *one);
        pause(between);
    }
    let recorded = finished(recording);
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
    let recording = start(&[]);
    let pid = Pid::from_raw(recording.1.id() as i32).unwrap();
    for one in
        [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::VTALARM, Signal::PROF, Signal::PIPE]
    {
        kill_process(pid, one).unwrap();
    }
    for one in [Signal::IO, Signal::POWER, Signal::XFSZ, Signal::STKFLT] {
        kill_process(pid, one).unwrap();
    }
    kill_by_number(recording.1.id(), &REAL_TIME);
    pause(500);
    kill_process(pid, Signal::TERM).unwrap();
    assert!([0, 3].contains(&finished(recording).status));
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
    let script = format!(
        "trap '' HUP; exec {} record -F 99 -d 4 -o out.folded 2>stderr",
        env!("CARGO_BIN_EXE_everytick")
    );
    let child = Command::new("sh").args(["-c", &script]).current_dir(directory.path()).spawn();
    let mut child = child.unwrap();
    wait_for("the recording", || {
        fs::read_to_string(directory.path().join("stderr")).is_ok_and(|s| s.contains("profiling"))
    });
    let begin = Instant::now();
    signal(&child, Signal::HUP);
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), None);
    assert!(begin.elapsed() > Duration::from_secs(3), "the signal has stopped it");
    assert!(directory.path().join("out.folded").exists());
}

#[test]
fn recording_ends_with_its_last_process() {
    let _alone = alone();
    let place = directory();
    let program = compile("chain.c", place.path(), "chain");
    let (first, second) = (Running::start(&program), Running::start(&program));
    let mut recording = start(&["-p", &first.pid(), "-p", &second.pid()]);
    assert!(text(recording.0.path()).contains("until they exit"), "{}", text(recording.0.path()));
    pause(1000);
    drop(first);
    pause(1000);
    assert!(recording.1.try_wait().unwrap().is_none(), "one process still runs");
    drop(second);
    let recorded = finished(recording);
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
    let directory = directory();
    let mut command = everytick();
    command.args(["record", "-q", "-F", "999", "-d", "5", "--ring-size", "16KiB"]);
    command.args(["-o", "out.pb.gz", "-o", "out.folded"]).current_dir(directory.path());
    let child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    pause(3000);
    signal(&child, Signal::STOP);
    pause(2000);
    signal(&child, Signal::CONT);
    let recorded = recorded(directory, child.wait_with_output().unwrap());
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
    let child = Command::new("sh").args(["-c", &script]).stderr(Stdio::piped()).spawn().unwrap();
    pause(5000);
    signal(&child, Signal::TERM);
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), None, "killed: {log}");
    assert!(log.contains("File too large") && log.contains("ulimit -f"), "{log}");
    assert!(log.contains("stopped"), "{log}");
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
    assert!(announced.stderr.contains("a\\u{1b}b at 99 Hz"), "{:?}", announced.stderr);
    assert!(!announced.stderr.contains('\x1b'), "{:?}", announced.stderr);

    let unwind = everytick().args(["unwind", program, "/no\x1bthing"]).output().unwrap();
    for bytes in [&unwind.stdout, &unwind.stderr] {
        assert!(!bytes.contains(&0x1b), "{:?}", String::from_utf8_lossy(bytes));
    }
}
