//! Sinks that come, go and change while the agent runs.

use super::*;

fn named(name: &str, script: &Script) -> NamedSink {
    NamedSink { name: name.into(), settings: SinkSettings::Scripted(script.clone()) }
}

#[test]
fn a_sink_that_has_gone_leaves_its_windows_and_gets_them_when_it_is_back() {
    let (a, b) = (Script::always(Act::Hang), Script::default());
    let story = Story::of([&a, &b]);
    let delivery = story.start();
    accept_all(&delivery, 1..=3);
    let without = Settings { sinks: vec![named("b", &b)], ..story.settings.clone() };
    delivery.reload(&without).expect("it can be followed");
    accept_all(&delivery, 4..=5);
    let counts = wait_until_nothing_waits(&delivery);
    assert_eq!(b.delivered(), [1, 2, 3, 4, 5]);
    assert_eq!(Vec::from_iter(counts.sinks.keys()), ["b"]);
    assert_eq!(counts.spool_bytes, 0);
    assert_eq!(story.files("a").len(), 3);

    let again = Script::default();
    let with = Settings { sinks: vec![named("b", &b), named("a", &again)], ..without };
    delivery.reload(&with).expect("it can be followed");
    accept_all(&delivery, [6]);
    let counts = wait_until_nothing_waits(&delivery);
    assert_eq!(again.delivered(), [1, 2, 3, 6]);
    assert_eq!(of(&counts, "a").ledger.found, 3);
    assert_eq!(b.starts(), 1);
}

#[test]
fn a_worker_that_hung_while_its_sink_went_and_came_back_changes_nothing() {
    let gate = Arc::new(Mutex::new(()));
    let closed = lock(&gate);
    let (old, new) = (Script::of([Act::Block(gate.clone())]), Script::always(Act::Hang));
    let b = Script::default();
    let story = Story::of([&old, &b]);
    let delivery = story.start();
    accept_all(&delivery, [1]);
    wait_until(&delivery, |_| old.came() == [1]);
    let settings = |sinks| Settings { sinks, ..story.settings.clone() };
    delivery.reload(&settings(vec![named("b", &b)])).expect("it can be followed");
    let both = settings(vec![named("a", &new), named("b", &b)]);
    delivery.reload(&both).expect("it can be followed");
    wait_until(&delivery, |_| new.came() == [1]);
    drop(closed);
    // All that is left are that of this test and that of its settings.
    wait_until(&delivery, |_| Arc::strong_count(&old.0) == 2);
    let counts = delivery.counts();
    counts.check().expect("the ledger closes");
    let ledger = of(&counts, "a").ledger.to_string();
    assert_eq!(ledger, "found 1 + closed 0 = delivered 0 + pending 1 + lost 0");
    assert_eq!(story.files("a").len(), 1);
}

#[test]
fn a_sink_whose_settings_change_goes_on_where_it_was() {
    let (a, other) = (Script::always(later(Failure::Unauthenticated)), Script::default());
    let mut story = Story { pace: SLOW, ..Story::of([&a]) };
    let delivery = story.start();
    accept_all(&delivery, 1..=3);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    story.settings.sinks = vec![named("a", &other)];
    delivery.reload(&story.settings).expect("it can be followed");
    let counts = wait_until(&delivery, |counts| of(counts, "a").ledger.delivered == 1);
    assert_eq!(of(&counts, "a").ledger.pending, 2);
    delivery.stop(PATIENCE);
    assert_eq!((a.came(), other.delivered()), (vec![1], vec![1, 2, 3]));
}

#[test]
fn a_reload_tries_again_at_once() {
    let a = Script::of([later(Failure::Unauthenticated)]);
    let story = Story { pace: SLOW, ..Story::of([&a]) };
    let delivery = story.start();
    accept_all(&delivery, [1]);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    delivery.reload(&story.settings).expect("it can be followed");
    wait_until_nothing_waits(&delivery);
    assert_eq!((a.came(), a.starts()), (vec![1, 1], 1));
}

#[test]
fn settings_that_cannot_be_followed_change_nothing() {
    let (a, wrong) = (Script::default(), Script::default());
    lock(&wrong.0).is_wrong = true;
    let story = Story::of([&a]);
    let delivery = story.start();
    let settings = |sinks| Settings { sinks, ..story.settings.clone() };
    for sinks in [vec![], vec![named("a", &wrong)], vec![named("a", &a), named("b", &wrong)]] {
        delivery.reload(&settings(sinks)).expect_err("it cannot be followed");
    }
    let mut moved = story.settings.clone();
    moved.spool.directory = story.root.path().join("elsewhere");
    let error = delivery.reload(&moved).expect_err("it cannot move");
    assert!(matches!(error, StartError::SpoolMoved { .. }), "{error}");
    accept_all(&delivery, [1]);
    wait_until_nothing_waits(&delivery);
    assert_eq!(a.delivered(), [1]);
}

#[test]
fn a_new_bound_counts_from_the_next_window_on() {
    let a = Script::always(later(Failure::Unreachable));
    let mut story = Story { pace: SLOW, ..Story::of([&a]) };
    let delivery = story.start();
    accept_all(&delivery, 1..=6);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    story.settings.spool.bytes_max = 3 * 4096;
    delivery.reload(&story.settings).expect("it can be followed");
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 2);
    accept_all(&delivery, [7]);
    let counts = delivery.counts();
    counts.check().expect("the ledger closes");
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::SpoolFull), 4);
}
