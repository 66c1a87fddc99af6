//! Outages, rejections, the limit of the spool, restarts and shutdown.

use super::*;

#[test]
fn every_window_reaches_every_sink_in_order() {
    let (a, b) = (ScriptedSink::default(), ScriptedSink::default());
    let fixture = Fixture::new([&a, &b]);
    let delivery = fixture.start();
    accept_all(&delivery, 1..=20);
    let counts = wait_until_delivered(&delivery);
    for (name, sink) in [("a", &a), ("b", &b)] {
        assert_eq!(sink.delivered(), Vec::from_iter(1..=20));
        assert_eq!(of(&counts, name).ledger.delivered, 20);
        assert_eq!(of(&counts, name).bytes_sent, 2_000);
        assert!(fixture.files(name).is_empty());
    }
    assert_eq!((counts.accepted, counts.spool_bytes), (20, 0));
}

#[test]
fn a_sink_receives_exactly_what_was_accepted() {
    let root = tempfile::tempdir().expect("a directory");
    let settings = SinkConfig::File(store_config(root.path().join("store")));
    let sinks = vec![NamedSink { name: "files".into(), settings }];
    let spool = SpoolConfig { directory: root.path().join("spool"), max_bytes: 1 << 30 };
    let delivery = Delivery::start(&DeliveryConfig { spool, sinks }, None).expect("starts");
    let batch = batch(1_795_571_040_123_456_789, &[(&[("comm", "a"), ("cut", "b")], 3)]);
    delivery.accept(&batch).expect("accepted");
    wait_until_delivered(&delivery);
    let file = root.path().join("store/20261125T014400.123Z.pb.gz");
    assert_eq!(directory::read(&file).expect("intact"), batch.profile);
}

#[test]
fn a_hanging_sink_delays_no_other() {
    let (a, b) = (ScriptedSink::always(Action::Hang), ScriptedSink::default());
    let fixture = Fixture::new([&a, &b]);
    let delivery = fixture.start();
    accept_all(&delivery, 1..=20);
    let counts = wait_until(&delivery, |counts| of(counts, "b").ledger.pending == 0);
    assert_eq!(b.delivered(), Vec::from_iter(1..=20));
    assert_eq!(of(&counts, "a").ledger.pending, 20);
    assert_eq!(of(&counts, "b").spool_bytes, 0);
    assert_eq!(counts.spool_bytes, 20 * 4096);
}

#[test]
fn after_an_outage_windows_arrive_once_and_in_order() {
    let outage = [Failure::Unreachable, Failure::Timeout, Failure::Unavailable, Failure::Throttled];
    let a = ScriptedSink::always(later(Failure::Unreachable));
    let fixture = Fixture::new([&a]);
    let delivery = fixture.start();
    accept_all(&delivery, 1..=60);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.count(Failure::Unreachable) >= 5);
    assert!(a.received().iter().all(|start| *start == 1), "only the oldest is attempted");
    a.set_script(outage.map(later));
    let counts = wait_until_delivered(&delivery);
    assert_eq!(a.delivered(), Vec::from_iter(1..=60));
    for reason in outage {
        assert!(of(&counts, "a").attempts.later.count(reason) >= 1);
    }
    assert_eq!(of(&counts, "a").ledger.lost.total(), 0);
}

#[test]
fn a_rejected_batch_is_counted_and_not_retried() {
    let a = ScriptedSink::with_actions([
        rejected(Failure::Rejected),
        delivered(),
        rejected(Failure::TooLarge),
    ]);
    let fixture = Fixture::new([&a]);
    let delivery = fixture.start();
    accept_all(&delivery, 1..=4);
    let counts = wait_until_delivered(&delivery);
    assert_eq!(a.received(), [1, 2, 3, 4]);
    assert_eq!(a.delivered(), [2, 4]);
    let sink = of(&counts, "a");
    assert_eq!(
        sink.ledger.to_string(),
        "closed 4 = delivered 2 + pending 0 + lost 2 (too_large: 1, rejected: 1)"
    );
    assert_eq!(sink.attempts.rejected.total(), 2);
    assert_eq!(sink.last_error.as_deref(), Some("never"));
    assert!(fixture.files("a").is_empty());
}

#[test]
fn partly_delivered_windows_are_counted_apart() {
    let partly = Answer::Partly { bytes: 7, rejected: 3, text: "three\nare bad".to_owned() };
    let a = ScriptedSink::with_actions([Action::Answer(partly)]);
    let fixture = Fixture::new([&a]);
    let delivery = fixture.start();
    accept_all(&delivery, 1..=2);
    let counts = wait_until_delivered(&delivery);
    let sink = of(&counts, "a");
    assert_eq!((sink.ledger.partly, sink.ledger.delivered, sink.rejected), (1, 1, 3));
    assert_eq!(sink.bytes_sent, 107);
    assert_eq!(sink.last_error.as_deref(), Some("three are bad"));
}

#[test]
fn a_full_spool_drops_and_counts_the_oldest() {
    let (a, b) = (ScriptedSink::always(later(Failure::Unreachable)), ScriptedSink::default());
    let mut fixture = Fixture::new([&a, &b]);
    fixture.pacing = FROZEN;
    fixture.config.spool.max_bytes = 5 * 4096;
    let delivery = fixture.start();
    for start in 1..=12 {
        accept_all(&delivery, [start]);
        wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
        assert!(fixture.files("a").len() <= 5);
    }
    let counts = delivery.counts();
    counts.check().expect("the ledger balances");
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::SpoolFull), 7);
    assert_eq!(of(&counts, "a").ledger.pending, 5);
    assert_eq!(counts.spool_bytes, counts.spool_bytes_max);
    assert_eq!(counts.accepted, 12);
    a.recover();
    let counts = delivery.stop(TEST_TIMEOUT);
    counts.check().expect("the ledger balances");
    assert_eq!(a.delivered(), Vec::from_iter(8..=12));
    assert_eq!(counts.pending(), 0);
}

#[test]
fn a_window_larger_than_the_spool_evicts_nothing() {
    let a = ScriptedSink::always(Action::Hang);
    let mut fixture = Fixture::new([&a]);
    fixture.config.spool.max_bytes = 4 * 4096;
    let delivery = fixture.start();
    accept_all(&delivery, 1..=4);
    let mut random = fastrand::Rng::with_seed(1);
    let texts: Vec<String> = (0..2_000).map(|_| random.u64(..).to_string()).collect();
    let labels: Vec<_> = texts.iter().map(|text| [("comm", text.as_str())]).collect();
    let samples: Vec<_> = labels.iter().map(|labels| (labels.as_slice(), 1)).collect();
    let refused = delivery.accept(&batch(5, &samples)).expect_err("too large");
    assert_eq!((refused.reason, refused.sinks), (Failure::TooLarge, vec!["a".to_owned()]));
    let counts = delivery.counts();
    counts.check().expect("the ledger balances");
    assert_eq!(counts.refused.count(Failure::TooLarge), 1);
    assert_eq!(of(&counts, "a").ledger.pending, 4);
}

#[test]
fn a_restart_delivers_earlier_windows_first() {
    let a = ScriptedSink::always(later(Failure::Unreachable));
    let fixture = Fixture { pacing: FROZEN, ..Fixture::new([&a]) };
    let delivery = fixture.start();
    accept_all(&delivery, [30, 10, 20]);
    let counts = delivery.stop(TEST_TIMEOUT);
    assert_eq!(of(&counts, "a").ledger.pending, 3);
    assert_eq!(fixture.files("a").len(), 3);

    a.recover();
    let fixture = Fixture { pacing: FAST, ..fixture };
    let delivery = fixture.start();
    accept_all(&delivery, [40]);
    let counts = wait_until_delivered(&delivery);
    assert_eq!(a.delivered(), [30, 10, 20, 40], "in the order in which they were accepted");
    assert_eq!(
        of(&counts, "a").ledger.to_string(),
        "found 3 + closed 1 = delivered 4 + pending 0 + lost 0"
    );
}

#[test]
fn files_with_names_of_version_1_are_delivered() {
    let a = ScriptedSink::always(later(Failure::Unreachable));
    let fixture = Fixture { pacing: FROZEN, ..Fixture::new([&a]) };
    let delivery = fixture.start();
    accept_all(&delivery, [10, 20]);
    delivery.stop(TEST_TIMEOUT);
    for (path, start) in fixture.files("a").iter().zip([10, 20]) {
        let old = path.with_file_name(format!("{start:020}-000000.pprof.zst"));
        std::fs::rename(path, old).expect("renamed");
    }
    a.recover();
    let fixture = Fixture { pacing: FAST, ..fixture };
    let delivery = fixture.start();
    accept_all(&delivery, [30]);
    let counts = wait_until_delivered(&delivery);
    assert_eq!(a.delivered(), [10, 20, 30]);
    assert_eq!(of(&counts, "a").ledger.found, 2);
}

#[test]
fn a_lower_limit_evicts_earlier_windows_at_start() {
    let a = ScriptedSink::always(Action::Hang);
    let mut fixture = Fixture::new([&a]);
    let delivery = fixture.start();
    accept_all(&delivery, 1..=5);
    delivery.stop(Duration::ZERO);
    fixture.config.spool.max_bytes = 2 * 4096;
    a.recover();
    fixture.pacing = FROZEN;
    let delivery = fixture.start();
    let counts = delivery.counts();
    counts.check().expect("the ledger balances");
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::SpoolFull), 3);
    delivery.stop(TEST_TIMEOUT);
    assert_eq!(a.delivered(), [4, 5]);
}

#[test]
fn shutdown_delivers_without_pauses() {
    let a = ScriptedSink::default();
    let fixture = Fixture { pacing: FROZEN, ..Fixture::new([&a]) };
    let delivery = fixture.start();
    accept_all(&delivery, 1..=10);
    wait_until(&delivery, |counts| of(counts, "a").ledger.delivered == 1);
    let counts = delivery.stop(TEST_TIMEOUT);
    counts.check().expect("the ledger balances");
    assert_eq!(a.delivered(), Vec::from_iter(1..=10));
}

#[test]
fn shutdown_retries_a_backed_off_sink_once() {
    let a = ScriptedSink::with_actions([later(Failure::Unreachable), later(Failure::Unreachable)]);
    let fixture = Fixture { pacing: FROZEN, ..Fixture::new([&a]) };
    let delivery = fixture.start();
    accept_all(&delivery, 1..=3);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    let counts = delivery.stop(TEST_TIMEOUT);
    assert_eq!(a.received(), [1, 1]);
    assert_eq!(of(&counts, "a").ledger.pending, 3);
    assert_eq!(fixture.files("a").len(), 3);
}

#[test]
fn shutdown_respects_a_requested_backoff() {
    let after = Some(Duration::from_secs(1));
    let throttled = Answer::Later { reason: Failure::Throttled, after, text: "slowly".into() };
    let a = ScriptedSink::with_actions([Action::Answer(throttled)]);
    let fixture = Fixture { pacing: FROZEN, ..Fixture::new([&a]) };
    let delivery = fixture.start();
    accept_all(&delivery, [1]);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    let counts = delivery.stop(TEST_TIMEOUT);
    assert_eq!(a.received(), [1]);
    assert_eq!(of(&counts, "a").ledger.pending, 1);
}

#[test]
fn shutdown_leaves_windows_of_a_hanging_sink_in_the_spool() {
    let (a, b) = (ScriptedSink::always(Action::Hang), ScriptedSink::default());
    let fixture = Fixture::new([&a, &b]);
    let delivery = fixture.start();
    accept_all(&delivery, 1..=3);
    let counts = delivery.stop(Duration::from_millis(100));
    counts.check().expect("the ledger balances");
    assert_eq!(of(&counts, "a").ledger.pending, 3);
    assert_eq!(fixture.files("a").len(), 3);
}

#[test]
fn a_panic_loses_only_its_window() {
    let a = ScriptedSink::with_actions([delivered(), Action::Panic, delivered(), Action::Panic]);
    let fixture = Fixture::new([&a]);
    let delivery = fixture.start();
    accept_all(&delivery, 1..=6);
    let counts = wait_until_delivered(&delivery);
    assert_eq!(a.delivered(), [1, 3, 5, 6]);
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::Defect), 2);
    assert_eq!((of(&counts, "a").quarantined, a.starts()), (2, 3));
}

#[test]
fn windows_with_the_same_start_are_all_delivered() {
    let a = ScriptedSink::default();
    let fixture = Fixture::new([&a]);
    let delivery = fixture.start();
    accept_all(&delivery, [7, 7, 7]);
    wait_until_delivered(&delivery);
    assert_eq!(a.delivered(), [7, 7, 7]);
}

#[test]
fn invalid_names_are_errors_with_a_next_step() {
    let check = |names: &[&str], expect: &str| {
        let mut fixture = Fixture::new([&ScriptedSink::default()]);
        let sink = fixture.config.sinks.remove(0);
        fixture.config.sinks =
            names.iter().map(|name| NamedSink { name: (*name).into(), ..sink.clone() }).collect();
        let error = fixture.try_start().err().expect("an error").to_string();
        assert_eq!(error, expect);
        let checked = Delivery::check(&fixture.config).expect_err("invalid");
        assert_eq!(checked.to_string(), expect);
    };
    check(&[], "there is no sink; give at least one");
    check(&["x", "y", "x"], "two sinks have the name `x`; give each its own");
    let rule = "cannot be the name of a sink; use 1 to 64 letters, digits, `-`, `_` and `.`, the \
                first no `.`";
    for name in ["", "../x", ".lock", "a b", "ä", &"x".repeat(65)] {
        check(&[name], &format!("`{name}` {rule}"));
    }
}

#[test]
fn a_sink_that_cannot_start_fails_the_start() {
    let a = ScriptedSink::default();
    a.fail_to_start();
    let fixture = Fixture::new([&ScriptedSink::default(), &a]);
    let error = fixture.try_start().err().expect("an error");
    assert_eq!(error.to_string(), "the script fails; correct it");
}

#[test]
fn two_agents_cannot_share_a_spool() {
    let fixture = Fixture::new([&ScriptedSink::default()]);
    let delivery = fixture.start();
    let error = fixture.try_start().err().expect("an error");
    assert!(matches!(error, StartError::InUse(_)), "{error}");
    delivery.stop(TEST_TIMEOUT);
    fixture.start().stop(TEST_TIMEOUT);
}
