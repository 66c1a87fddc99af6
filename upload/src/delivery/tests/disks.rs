//! Disks that are full or take no writing: file systems of 1 MiB, made for the test.

use std::process::Command;

use super::*;

/// A file system in memory of 1 MiB, mounted below a directory until it is dropped.
struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        let disk = Self(tempfile::tempdir().expect("a directory"));
        mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], disk.0.path());
        disk
    }

    fn set_read_only(&self, is_read_only: bool) {
        let mode = if is_read_only { "remount,ro" } else { "remount,rw" };
        mount(&["-o", mode], self.0.path());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn mount(arguments: &[&str], path: &Path) {
    let output = Command::new("mount").args(arguments).arg(path).output().expect("mount is there");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "these tests mount file systems: run them as root: {text}");
}

/// A story whose spool is on a disk of its own.
fn story_on(disk: &Disk, script: &Script) -> Story {
    let mut story = Story::of([script]);
    story.settings.spool.directory = disk.0.path().join("spool");
    story
}

/// A window of about 50 KB in the spool, which zstd cannot make smaller.
fn large_window(start_unix_ns: u64) -> Batch {
    let mut random = fastrand::Rng::with_seed(start_unix_ns);
    let text: String = (0..40_000).map(|_| random.alphanumeric()).collect();
    let text = format!("{start_unix_ns}{text}");
    batch(start_unix_ns, &[(&[("comm", &text)], 3)])
}

#[test]
fn on_a_full_disk_the_newest_is_lost_with_its_reason_and_the_others_arrive() {
    let disk = Disk::new();
    let a = Script::always(Act::Hang);
    let story = story_on(&disk, &a);
    let delivery = story.start();
    let full = (1..100).find_map(|start| delivery.accept(&large_window(start)).err());
    let refused = full.expect("100 of these do not fit into 1 MiB");
    assert_eq!((refused.reason, refused.sinks), (Failure::DiskFull, vec!["a".to_owned()]));
    let counts = delivery.counts();
    counts.check().expect("the ledger closes");
    assert_eq!(counts.refused.count(Failure::DiskFull), 1);
    let accepted = counts.accepted;
    assert_eq!(story.files("a").len() as u64, accepted);
    delivery.stop(Duration::ZERO);

    a.heal();
    let delivery = story.start();
    wait_until_nothing_waits(&delivery);
    assert_eq!(a.delivered(), Vec::from_iter(1..=accepted));
    delivery.accept(&large_window(1_000)).expect("there is room again");
}

#[test]
fn on_a_disk_made_read_only_windows_are_lost_with_their_reason_until_it_is_writable() {
    let disk = Disk::new();
    let a = Script::of([later(Failure::Unreachable)]);
    let story = Story { pace: SLOW, ..story_on(&disk, &a) };
    let delivery = story.start();
    accept_all(&delivery, [1]);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    disk.set_read_only(true);
    for start in 2..=4 {
        let refused = delivery.accept(&window(start)).expect_err("it takes no writing");
        assert_eq!(refused.reason, Failure::ReadOnly);
    }
    let counts = delivery.counts();
    counts.check().expect("the ledger closes");
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::ReadOnly), 3);
    disk.set_read_only(false);
    accept_all(&delivery, [5]);
    let counts = delivery.stop(PATIENCE);
    counts.check().expect("the ledger closes");
    assert_eq!(a.delivered(), [1, 5]);
}

#[test]
fn what_waits_on_a_read_only_disk_is_delivered_once() {
    let disk = Disk::new();
    let a = Script::always(Act::Hang);
    let story = story_on(&disk, &a);
    let delivery = story.start();
    accept_all(&delivery, 1..=3);
    delivery.stop(Duration::ZERO);
    disk.set_read_only(true);
    a.heal();
    let delivery = story.start();
    let counts = wait_until_nothing_waits(&delivery);
    assert_eq!(a.delivered(), [1, 2, 3]);
    assert_eq!(
        of(&counts, "a").ledger.to_string(),
        "found 3 + closed 0 = delivered 3 + pending 0 + lost 0"
    );
    delivery.stop(PATIENCE);
}

#[test]
fn a_spool_that_cannot_be_made_is_tried_again_with_each_window() {
    let disk = Disk::new();
    disk.set_read_only(true);
    let a = Script::default();
    let story = story_on(&disk, &a);
    let delivery = story.start();
    let refused = delivery.accept(&window(1)).expect_err("it takes no writing");
    assert_eq!(
        refused.to_string(),
        "the spool did not take a window for a: Read-only file system (os error 30); \
         make the directory writable, or give another"
    );
    disk.set_read_only(false);
    accept_all(&delivery, [2]);
    wait_until_nothing_waits(&delivery);
    assert_eq!(a.delivered(), [2]);
}

#[test]
fn one_sink_whose_directory_takes_nothing_does_not_cost_the_others() {
    let (a, b) = (Script::default(), Script::default());
    let story = Story::of([&a, &b]);
    let delivery = story.start();
    std::fs::write(story.settings.spool.directory.join("a"), "no directory").expect("written");
    let refused = delivery.accept(&window(1)).expect_err("one sink lost it");
    assert_eq!((refused.reason, refused.sinks), (Failure::Disk, vec!["a".to_owned()]));
    let counts = wait_until_nothing_waits(&delivery);
    assert_eq!(b.delivered(), [1]);
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::Disk), 1);
}

#[test]
fn a_full_store_costs_no_window_while_the_spool_has_room() {
    let disk = Disk::new();
    let mut story = Story::of([&Script::default()]);
    let settings = crate::sinks::directory::Settings {
        directory: disk.0.path().join("store"),
        ..crate::sinks::directory::Settings::default()
    };
    story.settings.sinks[0].settings = SinkSettings::File(settings);
    let ballast = disk.0.path().join("ballast");
    let _ = std::fs::write(&ballast, vec![1; 2 << 20]); // as much as fits
    let delivery = story.start();
    accept_all(&delivery, 1..=3);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.count(Failure::DiskFull) >= 2);
    std::fs::remove_file(ballast).expect("removed");
    let counts = wait_until_nothing_waits(&delivery);
    assert_eq!(of(&counts, "a").ledger.delivered, 3);
    let listing = crate::sinks::directory::windows_in(&disk.0.path().join("store"), 0, u64::MAX);
    assert_eq!(listing.expect("there").windows.len(), 3);
}
