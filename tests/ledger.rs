//! Every tick is accounted for, also when samples are lost.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
use std::collections::BTreeMap;

use common::{
    Recorded, Running, alone, compile, directory, pause, record, recorded, signal, start_record,
};
use rustix::process::Signal;

/// Keeps every CPU busy: an idle virtual CPU may not tick.
fn load() -> (common::TempDir, Vec<Running>) {
    let place = directory();
    let program = compile("chain.c", place.path(), "busy");
    let cpus = std::thread::available_parallelism().unwrap().get();
    let running = (0..cpus).map(|_| Running::start(&program)).collect();
    (place, running)
}

/// Adds up the ledger in the file, without the code that made it.
fn check_closes(recorded: &Recorded) -> BTreeMap<String, u64> {
    let ledger = recorded.ledger();
    println!("{ledger:?}");
    assert_eq!(ledger["due"], ledger["ticks"] + ledger["missed"]);
    assert_eq!(ledger["ticks"], ledger["emitted"] + ledger["skipped"]);
    assert_eq!(ledger["emitted"], ledger["aggregated"] + ledger["lost"]);
    let profile = recorded.pprof();
    let values: i64 = profile.sample.iter().map(|sample| sample.value[0]).sum();
    assert_eq!(values as u64, ledger["aggregated"]);
    assert_eq!(ledger.get("ring full").copied().unwrap_or(0), ledger["lost"]);
    ledger
}

#[test]
fn on_a_busy_machine_nothing_is_lost_and_hardly_a_tick_is_missed() {
    let _alone = alone();
    let _load = load();
    let ledger = check_closes(&record(&["-F", "499", "-d", "3"]).succeeded());
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(ledger["due"] >= 3 * 499 * cpus, "{ledger:?}");
    assert!(ledger["missed"] * 20 < ledger["due"], "{ledger:?}");
    assert_eq!(ledger["lost"], 0);
}

#[test]
fn a_reader_stopped_for_three_seconds_loses_nothing_that_the_ring_can_hold() {
    let _alone = alone();
    let _load = load();
    let ledger = check_closes(&record_with_stop(&["-F", "99"]));
    assert_eq!(ledger["lost"], 0, "{ledger:?}");
}

#[test]
fn a_ring_made_too_small_loses_samples_and_says_how_many() {
    let _alone = alone();
    let _load = load();
    let ledger = check_closes(&record_with_stop(&["-F", "999", "--ring-size", "16"]));
    assert!(ledger["lost"] > 1000, "{ledger:?}");
    assert!(ledger["aggregated"] > 500, "{ledger:?}");
}

/// Records for five seconds, of which the agent is stopped for three.
fn record_with_stop(arguments: &[&str]) -> Recorded {
    let place = directory();
    let child = start_record(place.path(), &[arguments, &["-d", "5"]].concat());
    pause(1000);
    signal(&child, Signal::STOP);
    pause(3000);
    signal(&child, Signal::CONT);
    recorded(place, child.wait_with_output().unwrap()).succeeded()
}

#[test]
fn what_filters_leave_out_is_counted_by_reason() {
    let _alone = alone();
    let (_place, running) = load();
    let recorded = record(&["-F", "199", "-d", "1", "-p", &running[0].pid()]).succeeded();
    let ledger = check_closes(&recorded);
    assert!(ledger["other process"] > 50, "{ledger:?}");
    assert!(ledger["aggregated"] > 50, "{ledger:?}");
}

#[test]
fn idle_ticks_are_skipped_unless_they_are_asked_for() {
    let _alone = alone();
    let without = check_closes(&record(&["-F", "199", "-d", "1"]).succeeded());
    assert!(without["idle"] > 50, "{without:?}");
    let with = record(&["-F", "199", "-d", "1", "--idle"]).succeeded();
    let ledger = check_closes(&with);
    assert_eq!(ledger.get("idle"), None);
    let idle: u64 =
        with.folded().iter().filter(|(s, _)| s[0].starts_with("swapper/")).map(|(_, n)| n).sum();
    assert!(idle > 50, "{:#?}", with.folded());
}
