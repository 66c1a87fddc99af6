//! An online CPU for which the kernel refuses a clock: the others are sampled, its time is in the
//! ledger, and it is sampled as soon as the kernel lets it.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::agent::{Agent, comments};
use common::{Running, alone, compile, compile_with, directory, everytick, parse_ledger, recorded};
use everytick::kernel::online_cpus;

const HZ: f64 = 199.0;
const ENOMEM: &str = "12";
const EBUSY: &str = "16";

/// The last CPU, of at least two.
fn denied_cpu() -> String {
    let cpus = online_cpus().unwrap();
    assert!(cpus.len() >= 2, "this test needs two CPUs");
    cpus.last().unwrap().0.to_string()
}

/// Makes a command fail to open the clock of a CPU, or of all, while the file that is returned
/// exists.
fn deny(command: &mut Command, place: &Path, cpu: &str, error: &str) -> PathBuf {
    let library = compile_with("deny_clock.c", place, "deny_clock.so", &["-shared", "-fPIC"]);
    let denied = place.join("denied");
    fs::write(&denied, "").unwrap();
    command.env("LD_PRELOAD", library).env("DENY_CLOCK_CPU", cpu);
    command.env("DENY_CLOCK_WHILE", &denied).env("DENY_CLOCK_ERROR", error);
    denied
}

#[test]
fn agent_accounts_for_a_cpu_without_a_clock_and_samples_it_later() {
    let _alone = alone();
    let mut agent = Agent::not_started("frequency = 199\nmax_cpu = 100");
    let mut command = agent.command();
    let denied = deny(&mut command, agent.place.path(), &denied_cpu(), ENOMEM);
    agent.spawn(&mut command);
    let program = compile("chain.c", agent.place.path(), "chain");
    let busy: Vec<_> = online_cpus().unwrap().iter().map(|_| Running::start(&program)).collect();
    busy.iter().for_each(Running::give_way);
    (1..=4).for_each(|count| agent.wait_for_windows(count));
    let cpus = online_cpus().unwrap().len() as f64;
    let without = |reason| agent.series("everytick_cpus_without_clock", reason);
    assert_eq!((without("out of memory"), without("starting")), (1.0, 0.0));
    assert_eq!(agent.metric("everytick_cpus_sampled"), cpus - 1.0);
    let not_sampled = || agent.series("everytick_ticks_not_sampled_total", "no clock");
    assert!(not_sampled() > HZ, "{}", not_sampled());
    assert_eq!(agent.page("/readyz").0, 200, "for the first two minutes");
    // What /readyz fails by: the time since the last tick of the CPU that is longest without one.
    let age = || agent.metric("everytick_tick_age_seconds");
    assert!(age() > 2.0, "{}", age());
    let line = format!("perf_event_open for CPU {}: Cannot allocate memory", denied_cpu());
    let log = agent.log();
    assert!(log.contains("an online CPU has no sampling clock") && log.contains(&line), "{log}");

    fs::remove_file(denied).unwrap();
    agent.wait_for("the clock", || (without("out of memory") == 0.0).then_some(()));
    let windows = agent.windows().len();
    (1..=4).for_each(|more| agent.wait_for_windows(windows + more));
    assert_eq!(agent.metric("everytick_cpus_sampled"), cpus);
    drop(busy);
    let [_, _, lost] = agent.stop();
    assert_eq!(lost, 0, "{}", agent.log());

    let profiles = agent.profiles();
    for (number, profile) in profiles.iter().enumerate() {
        let ledger = parse_ledger(comments(profile).into_iter());
        assert_eq!(ledger["due"], ledger["ticks"] + ledger["missed"] + ledger["not sampled"]);
        let seconds = profile.duration_nanos as f64 / 1e9;
        let (due, expected) = (ledger["due"] as f64, seconds * cpus * HZ);
        assert!((due - expected).abs() <= 0.04 * expected + 2.0 * cpus, "{due} of {expected} due");
        let no_clock = ledger.get("no clock").copied().unwrap_or(0) as f64;
        if number == 1 || number == 2 {
            let expected = seconds * HZ;
            assert!((no_clock - expected).abs() <= 0.1 * expected + 2.0, "{no_clock} {expected}");
        }
        if number >= windows + 2 {
            assert_eq!(no_clock, 0.0, "{ledger:?}");
        }
    }
}

#[test]
fn recording_says_which_ticks_had_no_clock() {
    let _alone = alone();
    let (place, directory) = (directory(), directory());
    let mut command = everytick();
    deny(&mut command, place.path(), &denied_cpu(), EBUSY);
    command.args(["record", "-F", "199", "-d", "2", "-o", "out.pb.gz", "-o", "out.folded"]);
    let _running = Running::start(&compile("chain.c", place.path(), "chain"));
    let output = command.current_dir(directory.path()).output().unwrap();
    let recorded = recorded(directory, output);
    assert_eq!(recorded.status, 3, "half of the ticks are missing: {}", recorded.stderr);
    let ledger = recorded.ledger();
    assert_eq!(ledger["due"], ledger["ticks"] + ledger["missed"] + ledger["not sampled"]);
    let share = 1.0 / online_cpus().unwrap().len() as f64;
    let part = ledger["no clock"] as f64 / ledger["due"] as f64;
    assert!((part - share).abs() < 0.15 * share, "{ledger:?}");
    assert!(recorded.stderr.contains("online CPUs without a clock"), "{}", recorded.stderr);
}

#[test]
fn without_any_clock_nothing_starts() {
    let _alone = alone();
    let (place, directory) = (directory(), directory());
    let mut command = everytick();
    deny(&mut command, place.path(), "all", ENOMEM);
    let output = command.args(["record", "-d", "1", "-o", "out.svg"]).current_dir(directory.path());
    let output = output.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("perf_event_open for CPU 0: Cannot allocate memory"), "{text}");
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}
