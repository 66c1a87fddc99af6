//! Programs that keep their own memory locked, for ever: on a file system that does not answer, or
//! by a page fault that is never resolved. Whatever reads about them waits, and profiling does not.
#![allow(clippy::unwrap_used)]

mod common;
mod fuse;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::agent::{Agent, labels};
use common::{Recorded, Running, alone, compile, directory, pause, record};
use profile::pprof::proto::Profile;

const KINDS: [&str; 3] = ["arguments", "unmapping", "userfault"];
/// Bytes of the file that they map.
const FILE_BYTES: usize = 4 << 20;
const CHAIN: [&str; 5] = ["main", "a", "b", "c", "spin"];

/// One program of each kind, with its memory locked.
struct Locked {
    running: Vec<Running>,
    file_system: fuse::Served,
    _place: common::TempDir,
}

impl Locked {
    fn start() -> Self {
        let place = directory();
        let mount = place.path().join("mount");
        std::fs::create_dir(&mount).unwrap();
        let file_system = fuse::serve(&mount, vec![0; FILE_BYTES]);
        let start = |kind: &&str| {
            let program = compile("attack/locked.c", place.path(), &format!("lock-{kind}"));
            start(&program, kind, &mount.join("program"))
        };
        let mut running: Vec<Running> = KINDS.iter().map(start).collect();
        file_system.stop_answering();
        for program in &mut running {
            program.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        }
        pause(500);
        let locked = running.iter().filter(|program| is_locked(program)).count();
        assert!(locked >= 2, "the memory of {locked} programs is locked");
        Self { running, file_system, _place: place }
    }

    fn assert_running(&mut self) {
        for program in &mut self.running {
            assert_eq!(program.0.try_wait().unwrap(), None);
        }
    }
}

/// What waits for the file system can be killed when that answers again.
impl Drop for Locked {
    fn drop(&mut self) {
        self.file_system.resume_answering();
    }
}

/// Starts a program, which goes on when it gets a line.
fn start(program: &Path, kind: &str, file: &Path) -> Running {
    let mut command = Command::new(program);
    command.arg(kind).arg(file).arg("x".repeat(16 << 10));
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut running = Running(child);
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "{kind}");
    running
}

/// Returns whether a read that takes the lock of a program's memory does not come back.
fn is_locked(program: &Running) -> bool {
    let file = format!("/proc/{}/smaps_rollup", program.pid());
    let status = Command::new("timeout")
        .args(["-s", "KILL", "1", "cat", &file])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    !status.unwrap().success()
}

/// Returns the share of a bystander's stacks that are whole, and of its samples.
fn whole(recorded: &Recorded) -> (u64, u64) {
    let frames = [&["bystander"], &CHAIN[..]].concat();
    (recorded.samples_through(&frames), recorded.samples_through(&["bystander"]))
}

#[test]
fn a_recording_does_not_wait_for_locked_memory() {
    let _alone = alone();
    let mut locked = Locked::start();
    let place = directory();
    let _bystander = Running::start(&compile("chain.c", place.path(), "bystander"));
    let begin = Instant::now();
    let recorded = record(&["-F", "199", "-d", "3"]).succeeded();
    let elapsed = begin.elapsed();
    locked.assert_running();
    let (whole, all) = whole(&recorded);
    assert!(all > 30 && whole * 10 >= all * 9, "{whole} of {all}: {}", recorded.stderr);
    for kind in KINDS {
        let name = format!("lock-{kind}");
        assert!(recorded.samples_through(&[&name]) > 10, "{name}: {}", recorded.stderr);
    }
    // Two seconds at most for the helpers that wait, and the rest for a busy machine.
    assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
}

/// Counts the samples of the bystander in windows, and those with the names of its chain.
fn bystander(windows: &[Profile]) -> (i64, i64) {
    let (mut whole, mut all) = (0, 0);
    for window in windows {
        for (number, sample) in window.sample.iter().enumerate() {
            if labels(window, number).get("comm") == Some(&"bystander") {
                let is_whole = !labels(window, number).contains_key("cut");
                whole += sample.value[0] * i64::from(is_whole);
                all += sample.value[0];
            }
        }
    }
    (whole, all)
}

#[test]
fn an_agent_does_not_wait_for_locked_memory() {
    let _alone = alone();
    let mut agent = Agent::start("frequency = 99\nmax_cpu = 100");
    agent.wait_for_windows(1);
    // They come while the agent runs, and so does the bystander.
    let mut locked = Locked::start();
    let _bystander = Running::start(&compile("chain.c", agent.place.path(), "bystander"));
    let before = agent.windows().len();
    let begin = Instant::now();
    agent.wait_for_windows(before + 6);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}\n{}", begin.elapsed(), agent.log());
    assert_eq!(agent.page("/healthz"), (200, "ok\n".into()), "{}", agent.log());
    let (whole, all) = bystander(&agent.profiles()[before + 3..]);
    assert!(all > 20 && whole * 10 >= all * 9, "{whole} of {all} whole");

    // An agent that starts beside them reads all processes first.
    agent.stop();
    agent.restart();
    let before = agent.windows().len();
    agent.wait_for_windows(before + 5);
    let (whole, all) = bystander(&agent.profiles()[before + 3..]);
    assert!(all > 10 && whole * 10 >= all * 9, "{whole} of {all} whole after a restart");
    locked.assert_running();
    let [_, _, lost] = agent.stop();
    assert_eq!(lost, 0, "{}", agent.log());
}
