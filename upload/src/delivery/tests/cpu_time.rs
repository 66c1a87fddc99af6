//! Deliveries within an allowance of CPU time.

use super::*;
use crate::cpu_allowance::tests::FakeAllowance;

#[test]
fn sends_wait_for_cpu_time_and_nothing_is_lost() {
    let (a, allowance) = (ScriptedSink::default(), FakeAllowance::default());
    let fixture = Fixture::new([&a]);
    allowance.set_until_credit(Duration::from_millis(20));
    let delivery = fixture.start_within(Arc::new(allowance.clone())).expect("starts");
    accept_all(&delivery, 1..=3);
    let counts = wait_until(&delivery, |counts| !of(counts, "a").cpu_wait.is_zero());
    assert_eq!((a.received(), of(&counts, "a").ledger.pending), (vec![], 3));
    assert_eq!(of(&counts, "a").attempts.later.total(), 0, "no attempt was made");
    allowance.set_until_credit(Duration::ZERO);
    let counts = wait_until_delivered(&delivery);
    assert_eq!((a.delivered(), of(&counts, "a").ledger.lost.total()), (vec![1, 2, 3], 0));
    delivery.stop(TEST_TIMEOUT);
    assert!(!allowance.charged().is_zero(), "what the sends took is charged");
}

#[test]
fn a_stop_delivers_though_no_cpu_time_is_left() {
    let (a, allowance) = (ScriptedSink::default(), FakeAllowance::default());
    allowance.set_until_credit(Duration::from_secs(3_600));
    let fixture = Fixture::new([&a]);
    let delivery = fixture.start_within(Arc::new(allowance)).expect("starts");
    accept_all(&delivery, 1..=3);
    let counts = delivery.stop(TEST_TIMEOUT);
    assert_eq!((a.delivered(), counts.pending()), (vec![1, 2, 3], 0));
}

#[test]
fn a_full_spool_evicts_what_waits_for_cpu_time() {
    let (a, allowance) = (ScriptedSink::default(), FakeAllowance::default());
    allowance.set_until_credit(Duration::from_secs(3_600));
    let mut fixture = Fixture::new([&a]);
    fixture.config.spool.max_bytes = 2 * 4096;
    let delivery = fixture.start_within(Arc::new(allowance)).expect("starts");
    accept_all(&delivery, 1..=5);
    let counts = delivery.counts();
    counts.check().expect("the ledger balances");
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::SpoolFull), 3);
}

#[test]
fn the_local_store_does_not_wait_until_there_is_cpu_time() {
    let (a, allowance) = (ScriptedSink::default(), FakeAllowance::default());
    allowance.set_until_credit(Duration::from_secs(3_600));
    let mut fixture = Fixture::new([&a]);
    let settings = SinkConfig::File(store_config(fixture.root.path().join("store")));
    fixture.config.sinks.push(NamedSink { name: "store".into(), settings });
    fixture.pacing.cpu_wait_max_local = Duration::from_millis(20);
    let delivery = fixture.start_within(Arc::new(allowance)).expect("starts");
    accept_all(&delivery, 1..=3);
    let counts = wait_until(&delivery, |counts| of(counts, "store").ledger.delivered == 3);
    assert!(of(&counts, "store").cpu_wait >= Duration::from_millis(60), "a wait for each");
    assert_eq!((a.received(), of(&counts, "a").ledger.pending), (vec![], 3));
}

#[test]
fn a_server_gets_a_batch_after_a_bounded_wait() {
    let (a, allowance) = (ScriptedSink::default(), FakeAllowance::default());
    allowance.set_until_credit(Duration::from_secs(3_600));
    let mut fixture = Fixture::new([&a]);
    fixture.pacing.cpu_wait_max = Duration::from_millis(20);
    let delivery = fixture.start_within(Arc::new(allowance)).expect("starts");
    accept_all(&delivery, 1..=3);
    wait_until_delivered(&delivery);
    assert_eq!(a.delivered(), vec![1, 2, 3]);
}
