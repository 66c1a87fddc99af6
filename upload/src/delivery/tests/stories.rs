//! Outages, refusals, the bound, and the end of a life.

use super::*;

#[test]
fn every_window_reaches_every_sink_in_order() {
    let (a, b) = (Script::default(), Script::default());
    let story = Story::of([&a, &b]);
    let delivery = story.start();
    accept_all(&delivery, 1..=20);
    let counts = wait_until_nothing_waits(&delivery);
    for (name, sink) in [("a", &a), ("b", &b)] {
        assert_eq!(sink.delivered(), Vec::from_iter(1..=20));
        assert_eq!(of(&counts, name).ledger.delivered, 20);
        assert_eq!(of(&counts, name).bytes_sent, 2_000);
        assert!(story.files(name).is_empty());
    }
    assert_eq!((counts.accepted, counts.spool_bytes), (20, 0));
}

#[test]
fn what_a_sink_gets_is_what_was_accepted() {
    let root = tempfile::tempdir().expect("a directory");
    let settings = crate::sinks::directory::Settings {
        directory: root.path().join("store"),
        ..crate::sinks::directory::Settings::default()
    };
    let sinks = vec![NamedSink { name: "files".into(), settings: SinkSettings::File(settings) }];
    let spool = spool::Settings { directory: root.path().join("spool"), bytes_max: 1 << 30 };
    let delivery = Delivery::start(&Settings { spool, sinks }, None).expect("it starts");
    let batch = batch(1_795_571_040_123_456_789, &[(&[("comm", "a"), ("cut", "b")], 3)]);
    delivery.accept(&batch).expect("taken");
    wait_until_nothing_waits(&delivery);
    let file = root.path().join("store/20261125T014400.123Z.pb.gz");
    assert_eq!(crate::sinks::directory::read(&file).expect("whole"), batch.profile);
}

#[test]
fn a_sink_that_hangs_delays_no_other() {
    let (a, b) = (Script::always(Act::Hang), Script::default());
    let story = Story::of([&a, &b]);
    let delivery = story.start();
    accept_all(&delivery, 1..=20);
    let counts = wait_until(&delivery, |counts| of(counts, "b").ledger.pending == 0);
    assert_eq!(b.delivered(), Vec::from_iter(1..=20));
    assert_eq!(of(&counts, "a").ledger.pending, 20);
    assert_eq!(of(&counts, "b").spool_bytes, 0);
    assert_eq!(counts.spool_bytes, 20 * 4096);
}

#[test]
fn after_an_outage_all_windows_arrive_in_order_and_none_twice() {
    let outage = [Failure::Unreachable, Failure::Timeout, Failure::Unavailable, Failure::Throttled];
    let a = Script::always(later(Failure::Unreachable));
    let story = Story::of([&a]);
    let delivery = story.start();
    accept_all(&delivery, 1..=60);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.count(Failure::Unreachable) >= 5);
    assert!(a.came().iter().all(|start| *start == 1), "the oldest is tried, and no other");
    lock(&a.0).acts = outage.map(later).into();
    lock(&a.0).then = None;
    let counts = wait_until_nothing_waits(&delivery);
    assert_eq!(a.delivered(), Vec::from_iter(1..=60));
    for reason in outage {
        assert!(of(&counts, "a").attempts.later.count(reason) >= 1);
    }
    assert_eq!(of(&counts, "a").ledger.lost.total(), 0);
}

#[test]
fn what_is_refused_is_counted_and_not_tried_again() {
    let a = Script::of([refused(Failure::Rejected), delivered(), refused(Failure::TooLarge)]);
    let story = Story::of([&a]);
    let delivery = story.start();
    accept_all(&delivery, 1..=4);
    let counts = wait_until_nothing_waits(&delivery);
    assert_eq!(a.came(), [1, 2, 3, 4]);
    assert_eq!(a.delivered(), [2, 4]);
    let sink = of(&counts, "a");
    assert_eq!(
        sink.ledger.to_string(),
        "closed 4 = delivered 2 + pending 0 + lost 2 (too_large: 1, rejected: 1)"
    );
    assert_eq!(sink.attempts.refused.total(), 2);
    assert_eq!(sink.last_error.as_deref(), Some("never"));
    assert!(story.files("a").is_empty());
}

#[test]
fn what_a_server_takes_in_part_is_told_from_what_it_takes() {
    let partly = Answer::Partly { bytes: 7, rejected: 3, text: "three\nare bad".to_owned() };
    let a = Script::of([Act::Say(partly)]);
    let story = Story::of([&a]);
    let delivery = story.start();
    accept_all(&delivery, 1..=2);
    let counts = wait_until_nothing_waits(&delivery);
    let sink = of(&counts, "a");
    assert_eq!((sink.ledger.partly, sink.ledger.delivered, sink.rejected), (1, 1, 3));
    assert_eq!(sink.bytes_sent, 107);
    assert_eq!(sink.last_error.as_deref(), Some("three are bad"));
}

#[test]
fn beyond_the_bound_the_oldest_are_dropped_and_counted() {
    let (a, b) = (Script::always(later(Failure::Unreachable)), Script::default());
    let mut story = Story::of([&a, &b]);
    story.pace = SLOW;
    story.settings.spool.bytes_max = 5 * 4096;
    let delivery = story.start();
    for start in 1..=12 {
        accept_all(&delivery, [start]);
        wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
        assert!(story.files("a").len() <= 5);
    }
    let counts = delivery.counts();
    counts.check().expect("the ledger closes");
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::SpoolFull), 7);
    assert_eq!(of(&counts, "a").ledger.pending, 5);
    assert_eq!(counts.spool_bytes, counts.spool_bytes_max);
    assert_eq!(counts.accepted, 12);
    a.heal();
    let counts = delivery.stop(PATIENCE);
    counts.check().expect("the ledger closes");
    assert_eq!(a.delivered(), Vec::from_iter(8..=12));
    assert_eq!(counts.pending(), 0);
}

#[test]
fn a_window_larger_than_the_spool_is_refused_and_drops_nothing() {
    let a = Script::always(Act::Hang);
    let mut story = Story::of([&a]);
    story.settings.spool.bytes_max = 4 * 4096;
    let delivery = story.start();
    accept_all(&delivery, 1..=4);
    let mut random = fastrand::Rng::with_seed(1);
    let texts: Vec<String> = (0..2_000).map(|_| random.u64(..).to_string()).collect();
    let labels: Vec<_> = texts.iter().map(|text| [("comm", text.as_str())]).collect();
    let samples: Vec<_> = labels.iter().map(|labels| (labels.as_slice(), 1)).collect();
    let refused = delivery.accept(&batch(5, &samples)).expect_err("it is too large");
    assert_eq!((refused.reason, refused.sinks), (Failure::TooLarge, vec!["a".to_owned()]));
    let counts = delivery.counts();
    counts.check().expect("the ledger closes");
    assert_eq!(counts.refused.count(Failure::TooLarge), 1);
    assert_eq!(of(&counts, "a").ledger.pending, 4);
}

#[test]
fn the_next_life_delivers_what_is_left_first_and_in_order() {
    let a = Script::always(later(Failure::Unreachable));
    let story = Story { pace: SLOW, ..Story::of([&a]) };
    let delivery = story.start();
    accept_all(&delivery, [30, 10, 20]);
    let counts = delivery.stop(PATIENCE);
    assert_eq!(of(&counts, "a").ledger.pending, 3);
    assert_eq!(story.files("a").len(), 3);

    a.heal();
    let story = Story { pace: QUICK, ..story };
    let delivery = story.start();
    accept_all(&delivery, [40]);
    let counts = wait_until_nothing_waits(&delivery);
    assert_eq!(a.delivered(), [10, 20, 30, 40]);
    assert_eq!(
        of(&counts, "a").ledger.to_string(),
        "found 3 + closed 1 = delivered 4 + pending 0 + lost 0"
    );
}

#[test]
fn a_lower_bound_counts_for_what_is_found_too() {
    let a = Script::always(Act::Hang);
    let mut story = Story::of([&a]);
    let delivery = story.start();
    accept_all(&delivery, 1..=5);
    delivery.stop(Duration::ZERO);
    story.settings.spool.bytes_max = 2 * 4096;
    a.heal();
    story.pace = SLOW;
    let delivery = story.start();
    let counts = delivery.counts();
    counts.check().expect("the ledger closes");
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::SpoolFull), 3);
    delivery.stop(PATIENCE);
    assert_eq!(a.delivered(), [4, 5]);
}

#[test]
fn at_the_end_what_waits_is_delivered_without_a_rest() {
    let a = Script::default();
    let story = Story { pace: SLOW, ..Story::of([&a]) };
    let delivery = story.start();
    accept_all(&delivery, 1..=10);
    wait_until(&delivery, |counts| of(counts, "a").ledger.delivered == 1);
    let counts = delivery.stop(PATIENCE);
    counts.check().expect("the ledger closes");
    assert_eq!(a.delivered(), Vec::from_iter(1..=10));
}

#[test]
fn at_the_end_a_sink_that_waits_is_tried_once_more() {
    let a = Script::of([later(Failure::Unreachable), later(Failure::Unreachable)]);
    let story = Story { pace: SLOW, ..Story::of([&a]) };
    let delivery = story.start();
    accept_all(&delivery, 1..=3);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    let counts = delivery.stop(PATIENCE);
    assert_eq!(a.came(), [1, 1]);
    assert_eq!(of(&counts, "a").ledger.pending, 3);
    assert_eq!(story.files("a").len(), 3);
}

#[test]
fn at_the_end_a_server_that_asked_for_time_is_left_alone() {
    let after = Some(Duration::from_secs(1));
    let throttled = Answer::Later { reason: Failure::Throttled, after, text: "slowly".into() };
    let a = Script::of([Act::Say(throttled)]);
    let story = Story { pace: SLOW, ..Story::of([&a]) };
    let delivery = story.start();
    accept_all(&delivery, [1]);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    let counts = delivery.stop(PATIENCE);
    assert_eq!(a.came(), [1]);
    assert_eq!(of(&counts, "a").ledger.pending, 1);
}

#[test]
fn at_the_end_a_sink_that_hangs_is_left_with_its_windows_in_the_spool() {
    let (a, b) = (Script::always(Act::Hang), Script::default());
    let story = Story::of([&a, &b]);
    let delivery = story.start();
    accept_all(&delivery, 1..=3);
    let counts = delivery.stop(Duration::from_millis(100));
    counts.check().expect("the ledger closes");
    assert_eq!(of(&counts, "a").ledger.pending, 3);
    assert_eq!(story.files("a").len(), 3);
}

#[test]
fn a_sink_that_panics_loses_that_window_and_goes_on() {
    let a = Script::of([delivered(), Act::Panic, delivered(), Act::Panic]);
    let story = Story::of([&a]);
    let delivery = story.start();
    accept_all(&delivery, 1..=6);
    let counts = wait_until_nothing_waits(&delivery);
    assert_eq!(a.delivered(), [1, 3, 5, 6]);
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::Defect), 2);
    assert_eq!((of(&counts, "a").set_aside, a.starts()), (2, 3));
}

#[test]
fn windows_of_one_moment_are_all_delivered() {
    let a = Script::default();
    let story = Story::of([&a]);
    let delivery = story.start();
    accept_all(&delivery, [7, 7, 7]);
    wait_until_nothing_waits(&delivery);
    assert_eq!(a.delivered(), [7, 7, 7]);
}

#[test]
fn settings_that_cannot_be_followed_are_one_sentence() {
    let check = |names: &[&str], expect: &str| {
        let mut story = Story::of([&Script::default()]);
        let sink = story.settings.sinks.remove(0);
        story.settings.sinks =
            names.iter().map(|name| NamedSink { name: (*name).into(), ..sink.clone() }).collect();
        let error = story.try_start().err().expect("it cannot start").to_string();
        assert_eq!(error, expect);
        let checked = Delivery::check(&story.settings).expect_err("nor is it right");
        assert_eq!(checked.to_string(), expect);
    };
    check(&[], "there is no sink; give at least one");
    check(&["x", "y", "x"], "two sinks have the name `x`; give each its own");
    let rule = "cannot be the name of a sink; use 1 to 64 letters, digits, `-`, `_` and `.`, the first no `.`";
    for name in ["", "../x", ".lock", "a b", "ä", &"x".repeat(65)] {
        check(&[name], &format!("`{name}` {rule}"));
    }
}

#[test]
fn a_sink_that_cannot_start_stops_the_start() {
    let a = Script::default();
    lock(&a.0).is_wrong = true;
    let story = Story::of([&Script::default(), &a]);
    let error = story.try_start().err().expect("it cannot start");
    assert_eq!(error.to_string(), "it is wrong; make it right");
}

#[test]
fn two_agents_do_not_share_a_spool() {
    let story = Story::of([&Script::default()]);
    let delivery = story.start();
    let error = story.try_start().err().expect("it is taken");
    assert!(matches!(error, StartError::InUse(_)), "{error}");
    delivery.stop(PATIENCE);
    story.start().stop(PATIENCE);
}
