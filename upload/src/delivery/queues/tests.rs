//! Queues of two sinks, without files.

use std::time::Duration;

use super::*;
use crate::clock::tests::FakeClock;
use crate::disk::BLOCK_BYTES;

fn name(start_unix_ns: u64) -> BatchName {
    BatchName::new(start_unix_ns, start_unix_ns, None)
}

/// Returns queues of sinks `a` and `b` with space for three batches of one block.
fn queues() -> Queues {
    let mut queues = Queues::new(3 * BLOCK_BYTES);
    for sink in ["a", "b"] {
        let generation = queues.new_generation(sink.into());
        queues.add_sink(&generation);
    }
    queues
}

/// Returns the generation of a sink of [`queues`].
fn generation(sink: &str) -> Generation {
    Generation { sink: sink.into(), number: if sink == "a" { 1 } else { 2 } }
}

/// Queues a batch for all sinks and returns the evicted files.
fn accept(queues: &mut Queues, start_unix_ns: u64) -> Vec<String> {
    let evicted = queues.evict_for(BLOCK_BYTES).expect("it fits");
    let name = queues.free_name(start_unix_ns, None);
    let sinks: Vec<_> = queues.sinks().into_iter().map(|sink| (sink, Ok(()))).collect();
    queues.add_closed(name, 1, &sinks);
    queues.counts().check().expect("the ledger balances");
    evicted.iter().map(|(sink, name)| format!("{sink}{}", name.start_unix_ns())).collect()
}

fn deliver(queues: &mut Queues, sink: &str) -> Option<u64> {
    let name = queues.next(&generation(sink))?;
    queues.complete(&generation(sink), Completion::Delivered(10));
    queues.counts().check().expect("the ledger balances");
    Some(name.start_unix_ns())
}

#[test]
fn each_sink_gets_all_batches_in_their_order() {
    let mut queues = queues();
    // The wall clock was set back after the first.
    for start in [3, 1, 2] {
        assert!(accept(&mut queues, start).is_empty());
    }
    for sink in ["a", "b"] {
        let all: Vec<_> = std::iter::from_fn(|| deliver(&mut queues, sink)).collect();
        assert_eq!(all, [3, 1, 2]);
    }
    let counts = queues.counts();
    assert_eq!((counts.spool_bytes, counts.accepted, counts.pending()), (0, 3, 0));
    assert_eq!(counts.sinks["a"].bytes_sent, 30);
}

#[test]
fn a_full_spool_evicts_the_oldest_from_waiting_sinks() {
    let mut queues = queues();
    for start in 1..=3 {
        accept(&mut queues, start);
    }
    deliver(&mut queues, "b");
    assert_eq!(accept(&mut queues, 4), ["a1"]);
    assert_eq!(accept(&mut queues, 5), ["a2", "b2"]);
    let counts = queues.counts();
    assert_eq!(counts.sinks["a"].ledger.lost.count(Failure::SpoolFull), 2);
    assert_eq!(counts.sinks["b"].ledger.lost.count(Failure::SpoolFull), 1);
    assert_eq!(counts.spool_bytes, counts.spool_bytes_max);
}

#[test]
fn a_delivered_batch_occupies_space_until_all_sinks_have_it() {
    let mut queues = queues();
    for start in 1..=3 {
        accept(&mut queues, start);
        deliver(&mut queues, "b");
    }
    assert_eq!(queues.counts().spool_bytes, 3 * BLOCK_BYTES);
    assert_eq!(accept(&mut queues, 4), ["a1"]);
}

#[test]
fn a_batch_in_flight_is_not_evicted() {
    let mut queues = queues();
    for start in 1..=3 {
        accept(&mut queues, start);
    }
    assert_eq!(queues.next(&generation("a")), Some(name(1)));
    assert_eq!(accept(&mut queues, 4), ["a2", "b2"]);
    queues.requeue(&generation("a"), Some((Failure::Timeout, "slow".into())));
    assert_eq!(accept(&mut queues, 5), ["a1", "b1"]);
    let counts = queues.counts();
    assert_eq!(counts.sinks["a"].attempts.later.count(Failure::Timeout), 1);
    assert_eq!(counts.sinks["a"].last_error.as_deref(), Some("slow"));
}

#[test]
fn nothing_is_evicted_if_the_batch_cannot_fit() {
    let mut queues = queues();
    for start in 1..=3 {
        accept(&mut queues, start);
    }
    queues.next(&generation("a"));
    assert_eq!(queues.evict_for(3 * BLOCK_BYTES), None);
    assert_eq!(queues.counts().pending(), 6);
}

#[test]
fn windows_with_the_same_start_get_different_names() {
    let mut queues = queues();
    accept(&mut queues, 7);
    accept(&mut queues, 7);
    assert_eq!(queues.free_name(7, None).order(), 9);
    assert_eq!(queues.counts().pending(), 4);
}

#[test]
fn removing_a_sink_releases_its_batches() {
    let mut queues = queues();
    accept(&mut queues, 1);
    deliver(&mut queues, "b");
    queues.next(&generation("a"));
    queues.remove_sink("a");
    assert_eq!(queues.counts().spool_bytes, 0);
    queues.complete(&generation("a"), Completion::Delivered(1)); // too late to count
    queues.counts().check().expect("the ledger balances");
}

#[test]
fn batches_of_an_earlier_run_count_once_per_sink() {
    let mut queues = queues();
    queues.add_found("a", vec![(name(1), 5_000), (name(2), 1)]);
    queues.add_found("b", vec![(name(2), 1)]);
    let counts = queues.counts();
    counts.check().expect("the ledger balances");
    assert_eq!((counts.spool_bytes, counts.pending()), (3 * BLOCK_BYTES, 3));
    assert_eq!(counts.sinks["a"].spool_bytes, 3 * BLOCK_BYTES);
    assert_eq!(accept(&mut queues, 3), ["a1"]);
}

#[test]
fn a_window_lost_for_one_sink_is_queued_for_the_others() {
    let mut queues = queues();
    let sinks = [("a".into(), Err(Failure::DiskFull)), ("b".into(), Ok(()))];
    queues.add_closed(name(1), 1, &sinks);
    let counts = queues.counts();
    counts.check().expect("the ledger balances");
    assert_eq!(counts.refused.count(Failure::DiskFull), 1);
    assert_eq!(counts.sinks["a"].ledger.lost.total(), 1);
    assert_eq!(counts.sinks["b"].ledger.pending, 1);
}

#[test]
fn a_clock_set_back_evicts_no_new_window() {
    let mut queues = queues();
    let day = 86_400_000_000_000;
    for start in [10 * day, 10 * day + 1, 9 * day, 10 * day + 2] {
        accept(&mut queues, start);
    }
    let left: Vec<_> = std::iter::from_fn(|| deliver(&mut queues, "a")).collect();
    assert_eq!(left, [10 * day + 1, 9 * day, 10 * day + 2]);
}

#[test]
fn the_age_of_the_oldest_batch_ignores_a_jump_of_the_clock() {
    let mut queues = queues();
    let clock = FakeClock::new(1_000_000_000_000, 1, 0);
    queues.clock = Box::new(clock.clone());
    let start = clock.boot_time();
    let name = queues.free_name(1_000_000_000_000, Some(start));
    queues.add_closed(name, 1, &[("a".into(), Ok(()))]);
    clock.pass(Duration::from_secs(3));
    for seconds in [315_360_000, -2 * 315_360_000] {
        clock.jump(seconds);
        assert_eq!(queues.counts().sinks["a"].oldest_age, Some(Duration::from_secs(3)));
    }
}
