//! Programs that use up what the agent tracks of processes: mappings, executables, process events.
//! They are bounded and counted, the ledger closes, and the stacks of a bystander, a program of
//! another user, stay complete.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Running, TempDir, alone, compile, directory, pause};
use everytick::kernel::SamplerConfig;
use everytick::processes::TrackingLimit;
use everytick::session::{ClosedWindow, ScanScope, Session, SessionCounts, SessionLimits};
use profile::StackEnd;

const PROGRAM: &str = env!("CARGO_BIN_EXE_everytick");
/// The users of the attackers; the bystander is root's.
const USERS: [u32; 3] = [65_531, 65_532, 65_533];
/// Memory for processes, mappings and executables.
const TRACKING: u64 = 1 << 20;

/// CPU seconds per second for process events and for reading processes in a storm: the programs of
/// this test are not optimized.
const STORM_TIME: f64 = 0.02;

/// A place that every user can read, with the programs of an attack.
struct Place(TempDir);

impl Place {
    fn create() -> Self {
        let place = directory();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self(place)
    }

    fn compile(&self, source: &str, name: &str) -> PathBuf {
        compile(source, self.0.path(), name)
    }
}

/// Starts a program as a user, in a process group of its own that is killed when it is dropped.
struct Attacker(Running);

impl Attacker {
    fn start(program: &Path, arguments: &[&str], user: u32) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).uid(user).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(Running(command.spawn().unwrap()))
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_raw(self.0.0.id() as i32).unwrap();
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

/// `processes`: CPU seconds per second for process events and for reading processes.
fn start(processes: f64) -> Session {
    let config = SamplerConfig { tick_limit: 100_000_000, ..SamplerConfig::machine(199) };
    let limits = SessionLimits { tracking: TRACKING, ..SessionLimits::default() };
    let session = Session::start(PROGRAM, config, ScanScope::All, limits, None, None).unwrap();
    session.limit_cpu(f64::INFINITY, processes);
    session
}

/// Counts the samples of the bystander in a window by the end of their user stack.
fn bystander_samples(closed: &ClosedWindow) -> BTreeMap<StackEnd, u64> {
    let tasks: Vec<_> = closed.window.tasks().collect();
    let mut counts = BTreeMap::new();
    for (key, count) in closed.window.samples() {
        if &*tasks[key.task.0 as usize].comm == "bystander" {
            *counts.entry(key.user_end).or_default() += count;
        }
    }
    counts
}

/// Returns whether nearly all stacks are complete, of enough samples.
fn is_complete(samples: &BTreeMap<StackEnd, u64>) -> bool {
    let all: u64 = samples.values().sum();
    let complete = samples.get(&StackEnd::Complete).copied().unwrap_or(0);
    all > 20 && complete * 100 >= all * 95
}

/// Runs an attack beside a bystander until its stacks are complete. Returns a window of the attack
/// in which they are.
fn attack(
    processes: f64,
    is_limited: impl Fn(&SessionCounts) -> bool,
    start_attackers: impl FnOnce(&Place) -> Vec<Attacker>,
) -> ClosedWindow {
    let _alone = alone();
    let place = Place::create();
    let bystander = Running::start(&place.compile("chain.c", "bystander"));
    let mut session = start(processes);
    let mut window_of = || {
        pause(1500);
        let closed = session.close_window().unwrap();
        closed.ledger.check().unwrap();
        closed
    };
    // On a busy machine its unwind table takes a while.
    let warm_up = (0..20).find(|_| is_complete(&bystander_samples(&window_of())));
    assert!(warm_up.is_some(), "the bystander is incomplete without an attack");
    let attackers = start_attackers(&place);
    let mut report = String::new();
    let found = (0..8).map(|_| window_of()).find(|closed| {
        let (samples, counts) = (bystander_samples(closed), &closed.counts);
        let _ = writeln!(
            report,
            "bystander {samples:?}; {} bytes, {} events skipped, {} lost, {} processes read, \
             refused {:?}",
            counts.process_bytes,
            counts.process_events_skipped,
            counts.side_band_lost,
            counts.processes_read,
            counts.refusals
        );
        assert!(counts.process_bytes <= TRACKING, "{report}");
        is_limited(counts) && is_complete(&samples)
    });
    println!("{report}");
    drop((attackers, bystander));
    session.finish().unwrap();
    found.expect("no window with complete stacks")
}

/// Runs processes that map memory 5,000 times each.
fn map_too_much(kind: &'static str, processes: usize, users: &'static [u32]) {
    let is_limited = |counts: &SessionCounts| counts.refusals.of(TrackingLimit::Mappings) > 0;
    attack(f64::INFINITY, is_limited, |place| {
        let mapper = place.compile("attack/mapper.c", "mapper");
        let file = mapper.to_str().unwrap().to_owned();
        let start = |number: usize| {
            Attacker::start(&mapper, &[&file, "5000", kind], users[number % users.len()])
        };
        (0..processes).map(start).collect()
    });
}

#[test]
fn mappings_of_one_file_over_all_processes_are_bounded() {
    map_too_much("file", 8, &USERS[..1]);
}

#[test]
fn mappings_of_several_users_that_change_are_bounded() {
    map_too_much("changing", 9, &USERS);
}

#[test]
fn mappings_of_forked_processes_are_bounded() {
    map_too_much("forked", 2, &USERS[..1]);
}

#[test]
fn anonymous_executable_mappings_are_bounded() {
    map_too_much("anonymous", 8, &USERS[..1]);
}

#[test]
fn executables_without_end_are_bounded() {
    let is_limited = |counts: &SessionCounts| {
        let limits = [TrackingLimit::Executables, TrackingLimit::OpenFiles];
        limits.iter().any(|limit| counts.refusals.of(*limit) > 0)
    };
    attack(f64::INFINITY, is_limited, |place| {
        let mapper = place.compile("attack/mapper.c", "mapper");
        let file = mapper.to_str().unwrap().to_owned();
        let start = |user: &u32| Attacker::start(&mapper, &[&file, "1000", "files"], *user);
        USERS.iter().map(start).collect()
    });
}

/// Runs programs that cause process events as fast as they can, and limits the CPU time for that.
fn storm(kind: &'static str) {
    let is_limited = |counts: &SessionCounts| counts.process_events_skipped > 0;
    attack(STORM_TIME, is_limited, |place| {
        let storm = place.compile("attack/storm.c", "storm");
        (0..2).map(|_| Attacker::start(&storm, &[kind], USERS[0])).collect()
    });
}

#[test]
fn forks_and_execs_without_end_are_skipped_beyond_their_share() {
    storm("fork");
    storm("exec");
}

#[test]
fn threads_and_vforks_without_end_are_skipped_beyond_their_share() {
    storm("vfork");
    storm("threads");
}

#[test]
fn names_and_mappings_that_change_without_end_are_skipped() {
    storm("rename");
    storm("map");
}
