//! Sinks added, removed and changed while the agent runs.

use super::*;

fn named(name: &str, sink: &ScriptedSink) -> NamedSink {
    NamedSink { name: name.into(), settings: SinkConfig::Scripted(sink.clone()) }
}

#[test]
fn a_removed_sink_gets_its_windows_when_added_again() {
    let (a, b) = (ScriptedSink::always(Action::Hang), ScriptedSink::default());
    let fixture = Fixture::new([&a, &b]);
    let delivery = fixture.start();
    accept_all(&delivery, 1..=3);
    let without = DeliveryConfig { sinks: vec![named("b", &b)], ..fixture.config.clone() };
    delivery.reload(&without).expect("valid");
    accept_all(&delivery, 4..=5);
    let counts = wait_until_delivered(&delivery);
    assert_eq!(b.delivered(), [1, 2, 3, 4, 5]);
    assert_eq!(Vec::from_iter(counts.sinks.keys()), ["b"]);
    assert_eq!(counts.spool_bytes, 0);
    assert_eq!(fixture.files("a").len(), 3);

    let again = ScriptedSink::default();
    let with = DeliveryConfig { sinks: vec![named("b", &b), named("a", &again)], ..without };
    delivery.reload(&with).expect("valid");
    accept_all(&delivery, [6]);
    let counts = wait_until_delivered(&delivery);
    assert_eq!(again.delivered(), [1, 2, 3, 6]);
    assert_eq!(of(&counts, "a").ledger.found, 3);
    assert_eq!(b.starts(), 1);
}

#[test]
fn a_thread_of_an_old_generation_changes_nothing() {
    let gate = Arc::new(Mutex::new(()));
    let gate_closed = lock(&gate);
    let (old, new) = (
        ScriptedSink::with_actions([Action::Block(gate.clone())]),
        ScriptedSink::always(Action::Hang),
    );
    let b = ScriptedSink::default();
    let fixture = Fixture::new([&old, &b]);
    let delivery = fixture.start();
    accept_all(&delivery, [1]);
    wait_until(&delivery, |_| old.received() == [1]);
    let config = |sinks| DeliveryConfig { sinks, ..fixture.config.clone() };
    delivery.reload(&config(vec![named("b", &b)])).expect("valid");
    let both = config(vec![named("a", &new), named("b", &b)]);
    delivery.reload(&both).expect("valid");
    wait_until(&delivery, |_| new.received() == [1]);
    drop(gate_closed);
    // The remaining clones are those of this test and of its configuration.
    wait_until(&delivery, |_| old.clones() == 2);
    let counts = delivery.counts();
    counts.check().expect("the ledger balances");
    let ledger = of(&counts, "a").ledger.to_string();
    assert_eq!(ledger, "found 1 + closed 0 = delivered 0 + pending 1 + lost 0");
    assert_eq!(fixture.files("a").len(), 1);
}

#[test]
fn a_sink_with_new_settings_keeps_its_queue() {
    let (a, other) =
        (ScriptedSink::always(later(Failure::Unauthenticated)), ScriptedSink::default());
    let mut fixture = Fixture { pacing: FROZEN, ..Fixture::new([&a]) };
    let delivery = fixture.start();
    accept_all(&delivery, 1..=3);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    fixture.config.sinks = vec![named("a", &other)];
    delivery.reload(&fixture.config).expect("valid");
    let counts = wait_until(&delivery, |counts| of(counts, "a").ledger.delivered == 1);
    assert_eq!(of(&counts, "a").ledger.pending, 2);
    delivery.stop(TEST_TIMEOUT);
    assert_eq!((a.received(), other.delivered()), (vec![1], vec![1, 2, 3]));
}

#[test]
fn reload_ends_a_backoff() {
    let a = ScriptedSink::with_actions([later(Failure::Unauthenticated)]);
    let fixture = Fixture { pacing: FROZEN, ..Fixture::new([&a]) };
    let delivery = fixture.start();
    accept_all(&delivery, [1]);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    delivery.reload(&fixture.config).expect("valid");
    wait_until_delivered(&delivery);
    assert_eq!((a.received(), a.starts()), (vec![1, 1], 1));
}

#[test]
fn an_invalid_configuration_changes_nothing() {
    let (a, wrong) = (ScriptedSink::default(), ScriptedSink::default());
    wrong.fail_to_start();
    let fixture = Fixture::new([&a]);
    let delivery = fixture.start();
    let config = |sinks| DeliveryConfig { sinks, ..fixture.config.clone() };
    for sinks in [vec![], vec![named("a", &wrong)], vec![named("a", &a), named("b", &wrong)]] {
        delivery.reload(&config(sinks)).expect_err("invalid");
    }
    let mut moved = fixture.config.clone();
    moved.spool.directory = fixture.root.path().join("elsewhere");
    let error = delivery.reload(&moved).expect_err("the spool cannot move");
    assert!(matches!(error, StartError::SpoolMoved { .. }), "{error}");
    accept_all(&delivery, [1]);
    wait_until_delivered(&delivery);
    assert_eq!(a.delivered(), [1]);
}

#[test]
fn a_lower_limit_applies_from_the_next_window() {
    let a = ScriptedSink::always(later(Failure::Unreachable));
    let mut fixture = Fixture { pacing: FROZEN, ..Fixture::new([&a]) };
    let delivery = fixture.start();
    accept_all(&delivery, 1..=6);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    fixture.config.spool.max_bytes = 3 * 4096;
    delivery.reload(&fixture.config).expect("valid");
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 2);
    accept_all(&delivery, [7]);
    let counts = delivery.counts();
    counts.check().expect("the ledger balances");
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::SpoolFull), 4);
}
