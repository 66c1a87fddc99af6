//! The capture ledger accounts for every tick, also when samples are lost.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
use std::collections::BTreeMap;

use common::{Recorded, Recording, Running, alone, compile, directory, pause, record};
use rustix::process::Signal;

/// Keeps every CPU busy: an idle virtual CPU may not tick.
fn load() -> (common::TempDir, Vec<Running>) {
    let dir = directory();
    let program = compile("chain.c", dir.path(), "busy");
    let cpus = std::thread::available_parallelism().unwrap().get();
    let running = (0..cpus).map(|_| Running::start(&program)).collect();
    (dir, running)
}

/// Adds up the ledger in the pprof file, without the code that wrote it.
fn check_closes(recorded: &Recorded) -> BTreeMap<String, u64> {
    let ledger = recorded.ledger();
    println!("{ledger:?}");
    assert_eq!(ledger["due"], ledger["ticks"] + ledger["missed"] + ledger["not sampled"]);
    assert_eq!(ledger["ticks"], ledger["emitted"] + ledger["skipped"]);
    assert_eq!(ledger["emitted"], ledger["aggregated"] + ledger["lost"]);
    let profile = recorded.pprof();
    let values: i64 = profile.sample.iter().map(|sample| sample.value[0]).sum();
    assert_eq!(values as u64, ledger["aggregated"]);
    assert_eq!(ledger.get("ring full").copied().unwrap_or(0), ledger["lost"]);
    ledger
}

#[test]
fn busy_machine_loses_no_sample_and_misses_few_ticks() {
    let _alone = alone();
    let _load = load();
    let ledger = check_closes(&record(&["-F", "499", "-d", "3"]).succeeded());
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(ledger["due"] >= 3 * 499 * cpus, "{ledger:?}");
    assert!(ledger["missed"] * 20 < ledger["due"], "{ledger:?}");
    assert_eq!(ledger["lost"], 0);
}

#[test]
fn ring_holds_the_samples_of_a_three_second_stall() {
    let _alone = alone();
    let _load = load();
    let ledger = check_closes(&record_with_stop(&["-F", "99"]).succeeded());
    assert_eq!(ledger["lost"], 0, "{ledger:?}");
}

#[test]
fn lost_samples_are_counted_when_the_ring_is_too_small() {
    let _alone = alone();
    let _load = load();
    let recorded = record_with_stop(&["-F", "999", "--ring-size", "16KiB"]);
    assert_eq!(recorded.status, 3, "the exit status says that much is lost: {}", recorded.stderr);
    let ledger = check_closes(&recorded);
    assert!(ledger["lost"] > 1000, "{ledger:?}");
    assert!(ledger["aggregated"] > 500, "{ledger:?}");
}

/// Records for five seconds, with the agent stopped for three of them.
fn record_with_stop(arguments: &[&str]) -> Recorded {
    let recording = Recording::start(arguments);
    pause(1000);
    recording.signal(Signal::STOP);
    pause(3000);
    recording.signal(Signal::CONT);
    pause(1000);
    recording.stop()
}

#[test]
fn filtered_ticks_are_counted_by_reason() {
    let _alone = alone();
    let (_dir, running) = load();
    let recorded = record(&["-F", "199", "-d", "1", "-p", &running[0].pid()]).succeeded();
    let ledger = check_closes(&recorded);
    assert!(ledger["other process or thread"] > 50, "{ledger:?}");
    assert!(ledger["aggregated"] > 50, "{ledger:?}");
}

/// Ticks a second in the tests of idle time.
const IDLE_HZ: u64 = 199;

/// Records for about two seconds. Returns the idle ticks to be expected of the time that the CPUs
/// were idle meanwhile, according to the kernel: other programs may keep CPUs busy.
fn record_with_idle_time(arguments: &[&str]) -> (Recorded, u64) {
    let frequency = IDLE_HZ.to_string();
    let script = "cat /proc/stat >before; sleep 2; cat /proc/stat >after";
    let command = ["-F", &frequency, "--", "sh", "-c", script];
    let recorded = record(&[arguments, &command].concat()).succeeded();
    let [before, after] = ["before", "after"].map(|name| idle_seconds(&recorded, name));
    (recorded, ((after - before) * IDLE_HZ as f64) as u64)
}

/// Returns the idle time of all CPUs in a copy of /proc/stat: columns `idle` and `iowait`, in
/// hundredths of a second.
fn idle_seconds(recorded: &Recorded, name: &str) -> f64 {
    let text = std::fs::read_to_string(recorded.directory.path().join(name)).unwrap();
    let columns = text.lines().next().unwrap().split_whitespace().skip(4).take(2);
    columns.map(|column| column.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// Asserts that idle time, and no other, became ticks. An idle virtual CPU may miss some; before
/// and after the command the recording goes on for less than half a second.
fn check_idle_ticks(ticks: u64, expected: u64) {
    println!("{ticks} idle ticks, {expected} expected");
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(ticks * 4 >= expected, "{ticks} idle ticks, {expected} expected");
    assert!(ticks <= expected + expected / 4 + cpus * IDLE_HZ / 2, "{ticks}, not {expected}");
}

fn samples_of_idle_tasks(recorded: &Recorded) -> u64 {
    let is_idle = |stack: &[String]| stack[0].starts_with("swapper/");
    let folded = recorded.folded();
    folded.iter().filter(|(stack, _)| is_idle(stack)).map(|(_, count)| count).sum()
}

#[test]
fn idle_ticks_are_skipped_by_default() {
    let _alone = alone();
    let (recorded, expected) = record_with_idle_time(&[]);
    let ledger = check_closes(&recorded);
    check_idle_ticks(ledger.get("idle").copied().unwrap_or(0), expected);
    assert_eq!(samples_of_idle_tasks(&recorded), 0);
}

#[test]
fn idle_option_samples_idle_ticks() {
    let _alone = alone();
    let (recorded, expected) = record_with_idle_time(&["--idle"]);
    let ledger = check_closes(&recorded);
    assert_eq!(ledger.get("idle"), None);
    check_idle_ticks(samples_of_idle_tasks(&recorded), expected);
}
