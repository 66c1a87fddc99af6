//! Books of made-up sinks.

use super::*;

fn name(start_unix_ns: u64) -> Name {
    Name { start_unix_ns, number: 0 }
}

/// Queues for sinks `a` and `b` with room for three batches of one block.
fn queues() -> Queues {
    let mut queues = Queues::new(3 * BLOCK);
    for sink in ["a", "b"] {
        let life = queues.new_life(sink.into());
        queues.add_sink(&life);
    }
    queues
}

/// The life of a sink of those.
fn life(sink: &str) -> Life {
    Life { sink: sink.into(), number: if sink == "a" { 1 } else { 2 } }
}

/// Has the spool accept a batch for all sinks and gives the files that it dropped.
fn accept(queues: &mut Queues, start_unix_ns: u64) -> Vec<String> {
    let dropped = queues.make_room(BLOCK).expect("there is room");
    let name = queues.free_name(start_unix_ns);
    let sinks: Vec<_> = queues.sinks().into_iter().map(|sink| (sink, Ok(()))).collect();
    queues.closed(name, 1, &sinks);
    queues.counts().check().expect("the ledger closes");
    dropped.iter().map(|(sink, name)| format!("{sink}{}", name.start_unix_ns)).collect()
}

fn deliver(queues: &mut Queues, sink: &str) -> Option<u64> {
    let name = queues.next(&life(sink))?;
    queues.ended(&life(sink), End::Delivered(10));
    queues.counts().check().expect("the ledger closes");
    Some(name.start_unix_ns)
}

#[test]
fn each_sink_gets_all_batches_oldest_first() {
    let mut queues = queues();
    for start in [3, 1, 2] {
        assert!(accept(&mut queues, start).is_empty());
    }
    for sink in ["a", "b"] {
        let all: Vec<_> = std::iter::from_fn(|| deliver(&mut queues, sink)).collect();
        assert_eq!(all, [1, 2, 3]);
    }
    let counts = queues.counts();
    assert_eq!((counts.spool_bytes, counts.accepted, counts.pending()), (0, 3, 0));
    assert_eq!(counts.sinks["a"].bytes_sent, 30);
}

#[test]
fn beyond_the_bound_the_oldest_is_lost_to_those_that_still_wait_for_it() {
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
fn a_quick_sink_does_not_make_room_for_a_slow_one() {
    let mut queues = queues();
    for start in 1..=3 {
        accept(&mut queues, start);
        deliver(&mut queues, "b");
    }
    assert_eq!(queues.counts().spool_bytes, 3 * BLOCK);
    assert_eq!(accept(&mut queues, 4), ["a1"]);
}

#[test]
fn what_is_on_its_way_is_not_dropped() {
    let mut queues = queues();
    for start in 1..=3 {
        accept(&mut queues, start);
    }
    assert_eq!(queues.next(&life("a")), Some(name(1)));
    assert_eq!(accept(&mut queues, 4), ["a2", "b2"]);
    queues.again(&life("a"), Some((Failure::Timeout, "slow".into())));
    assert_eq!(accept(&mut queues, 5), ["a1", "b1"]);
    let counts = queues.counts();
    assert_eq!(counts.sinks["a"].attempts.later.count(Failure::Timeout), 1);
    assert_eq!(counts.sinks["a"].last_error.as_deref(), Some("slow"));
}

#[test]
fn a_batch_for_which_no_room_can_be_made_drops_nothing() {
    let mut queues = queues();
    for start in 1..=3 {
        accept(&mut queues, start);
    }
    queues.next(&life("a"));
    assert_eq!(queues.make_room(3 * BLOCK), None);
    assert_eq!(queues.counts().pending(), 6);
}

#[test]
fn windows_of_one_moment_have_names_of_their_own() {
    let mut queues = queues();
    accept(&mut queues, 7);
    accept(&mut queues, 7);
    assert_eq!(queues.free_name(7).number, 2);
    assert_eq!(queues.counts().pending(), 4);
}

#[test]
fn a_sink_that_goes_lets_go_of_its_batches() {
    let mut queues = queues();
    accept(&mut queues, 1);
    deliver(&mut queues, "b");
    queues.next(&life("a"));
    queues.remove_sink("a");
    assert_eq!(queues.counts().spool_bytes, 0);
    queues.ended(&life("a"), End::Delivered(1)); // too late to count
    queues.counts().check().expect("the ledger closes");
}

#[test]
fn what_an_earlier_life_left_counts_once_for_each_sink() {
    let mut queues = queues();
    queues.found("a", vec![(name(1), 5_000), (name(2), 1)]);
    queues.found("b", vec![(name(2), 1)]);
    let counts = queues.counts();
    counts.check().expect("the ledger closes");
    assert_eq!((counts.spool_bytes, counts.pending()), (3 * BLOCK, 3));
    assert_eq!(counts.sinks["a"].spool_bytes, 3 * BLOCK);
    assert_eq!(accept(&mut queues, 3), ["a1"]);
}

#[test]
fn a_window_that_one_sink_lost_is_refused_and_the_others_have_it() {
    let mut queues = queues();
    let sinks = [("a".into(), Err(Failure::DiskFull)), ("b".into(), Ok(()))];
    queues.closed(name(1), 1, &sinks);
    let counts = queues.counts();
    counts.check().expect("the ledger closes");
    assert_eq!(counts.refused.count(Failure::DiskFull), 1);
    assert_eq!(counts.sinks["a"].ledger.lost.total(), 1);
    assert_eq!(counts.sinks["b"].ledger.pending, 1);
}
