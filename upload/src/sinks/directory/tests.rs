//! The store under clocks that jump, after a reboot, and with two writers.

use profile::{BootTime, Origin};

use super::*;
use crate::batch::Failure;
use crate::batch::tests::batch;
use crate::clock::tests::FakeClock;

const SECOND: u64 = 1_000_000_000;
/// 2026-11-25 01:44:00 UTC.
const START: u64 = 1_795_571_040 * SECOND;
const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;

struct Store {
    root: tempfile::TempDir,
    clock: FakeClock,
    sink: Sink,
}

impl Store {
    /// Returns a store that keeps windows for a day.
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let clock = FakeClock::new(START, 1, 60 * SECOND);
        let sink = Self::sink(&root, &clock);
        Self { root, clock, sink }
    }

    fn sink(root: &tempfile::TempDir, clock: &FakeClock) -> Sink {
        let max_age = Duration::from_secs(DAY as u64);
        let retention = Retention { max_age, ..Retention::default() };
        let config = Config { directory: root.path().join("store"), retention };
        Sink::with_clock(&config, Arc::new(clock.clone()))
    }

    /// Restarts the agent.
    fn restart(&mut self) {
        let (root, clock) = (&self.root, &self.clock);
        self.sink.lock = None;
        self.sink = Self::sink(root, clock);
    }

    /// Stores a window that begins now, and lets ten seconds pass.
    fn window(&mut self) {
        let bytes = self.sink.store(&self.batch());
        assert!(bytes.is_ok(), "stored");
        self.clock.pass(Duration::from_secs(10));
    }

    fn batch(&self) -> Batch {
        let mut batch = batch(self.clock.unix_ns(), &[(&[("comm", "a")], 1)]);
        let origin = Origin { start: self.clock.boot_time(), instance: 1, host: "n".into() };
        batch.profile.comment.push(batch.profile.string_table.len() as i64);
        batch.profile.string_table.push(origin.to_string());
        batch
    }

    fn windows(&self) -> Vec<StoredWindow> {
        let directory = self.root.path().join("store");
        let listing = windows_in(&directory, 0, u64::MAX).expect("readable");
        assert!(listing.damaged.is_empty(), "{listing:?}");
        listing.windows
    }
}

#[test]
fn no_jump_of_the_wall_clock_removes_a_window() {
    for jumps in [
        vec![10 * YEAR, -10 * YEAR],
        vec![10 * YEAR],
        vec![-DAY],
        vec![-10 * YEAR, 10 * YEAR],
        vec![2 * DAY, -4 * DAY, 2 * DAY, 10 * YEAR, -10 * YEAR],
    ] {
        let mut store = Store::new();
        (0..24).for_each(|_| store.window());
        for jump in &jumps {
            store.clock.jump(*jump);
            (0..3).for_each(|_| store.window());
        }
        (0..24).for_each(|_| store.window());
        assert_eq!(store.windows().len(), 48 + 3 * jumps.len(), "{jumps:?}");
    }
}

#[test]
fn windows_older_than_the_maximum_are_removed_by_the_time_since_boot() {
    let mut store = Store::new();
    (0..5).for_each(|_| store.window());
    store.clock.jump(10 * YEAR);
    (0..5).for_each(|_| store.window());
    store.clock.jump(-10 * YEAR);
    store.clock.pass(Duration::from_secs(DAY as u64 + 1_000));
    (0..2).for_each(|_| store.window());
    assert_eq!(store.windows().len(), 2, "those with the wrong time are gone too");
}

#[test]
fn windows_of_an_earlier_boot_age_by_the_wall_clock() {
    let mut store = Store::new();
    (0..5).for_each(|_| store.window());
    store.clock.pass(Duration::from_secs(DAY as u64 / 2));
    store.clock.reboot(2);
    store.restart();
    store.window();
    assert_eq!(store.windows().len(), 6);
    store.clock.pass(Duration::from_secs(DAY as u64));
    store.window();
    let left = store.windows();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_wrong_clock_at_boot_removes_nothing_and_is_corrected() {
    let mut store = Store::new();
    (0..5).for_each(|_| store.window());
    store.clock.reboot(2);
    store.clock.jump(-10 * YEAR); // no battery
    store.restart();
    (0..5).for_each(|_| store.window());
    store.clock.jump(10 * YEAR); // as soon as the network is up
    (0..5).for_each(|_| store.window());
    assert_eq!(store.windows().len(), 15);
    // A day after the correction the clock is believed, and age counts again.
    store.clock.pass(Duration::from_secs(DAY as u64 + 60));
    (0..2).for_each(|_| store.window());
    assert_eq!(store.windows().len(), 2);
}

#[test]
fn a_clock_ahead_at_boot_removes_nothing() {
    let mut store = Store::new();
    (0..24).for_each(|_| store.window());
    store.clock.reboot(2);
    store.clock.jump(10 * YEAR);
    store.restart();
    (0..5).for_each(|_| store.window());
    store.clock.jump(-10 * YEAR); // as soon as the network is up
    (0..5).for_each(|_| store.window());
    assert_eq!(store.windows().len(), 34);
}

#[test]
fn a_restart_after_a_jump_removes_nothing() {
    let mut store = Store::new();
    (0..24).for_each(|_| store.window());
    store.clock.jump(10 * YEAR);
    store.restart();
    (0..5).for_each(|_| store.window());
    assert_eq!(store.windows().len(), 29);
}

#[test]
fn a_full_store_keeps_the_windows_taken_last_though_the_clock_was_set_back() {
    let mut store = Store::new();
    store.sink.config.retention.max_bytes = 10 * disk::BLOCK_BYTES;
    (0..10).for_each(|_| store.window());
    store.clock.jump(-10 * YEAR);
    let since = store.clock.boot_time().ns;
    (0..10).for_each(|_| store.window());
    let starts: Vec<u64> =
        store.windows().iter().filter_map(|w| Some(w.origin.as_ref()?.start.ns)).collect();
    assert_eq!(starts.len(), 10);
    assert!(starts.iter().all(|start| *start >= since), "{starts:?}");
}

#[test]
fn windows_keep_both_clocks_and_their_agent() {
    let mut store = Store::new();
    store.window();
    let window = store.windows().remove(0);
    let start = BootTime { boot_id: 1, ns: 60 * SECOND };
    assert_eq!(window.origin, Some(Origin { start, instance: 1, host: "n".into() }));
    assert_eq!(window.start_unix_ns, START);
    let message = read(&window.path).expect("a window");
    assert_eq!(pprof::origin(&message), window.origin);
}

#[tokio::test]
async fn a_store_has_one_writer() {
    let mut store = Store::new();
    store.sink.claim(Duration::ZERO).expect("free");
    let mut second = Store::sink(&store.root, &store.clock);
    let directory = store.root.path().join("store");
    assert_eq!(second.claim(Duration::ZERO), Err(InUse(directory)));
    let answer = second.send(&store.batch()).await;
    let Answer::Later { reason: Failure::Disk, text, .. } = answer else { panic!("{answer:?}") };
    assert!(text.ends_with("store: another everytick uses it"), "{text}");
    store.window();
    drop(store.sink);
    second.claim(Duration::ZERO).expect("free again");
    let batch = batch(START + SECOND, &[(&[("comm", "a")], 1)]);
    assert!(matches!(second.send(&batch).await, Answer::Delivered { .. }));
}

#[test]
fn a_removed_directory_is_created_and_locked_again() {
    let mut store = Store::new();
    store.window();
    std::fs::remove_dir_all(store.root.path().join("store")).expect("removed");
    store.window();
    assert_eq!(store.windows().len(), 1);
    let mut second = Store::sink(&store.root, &store.clock);
    assert!(second.claim(Duration::ZERO).is_err());
}
