//! Full and read-only disks: file systems of 1 MiB, mounted for the test.

use std::process::Command;

use super::*;

/// A tmpfs of 1 MiB, mounted until dropped.
pub(super) struct Disk(TempDir);

impl Disk {
    pub fn new() -> Self {
        let disk = Self(tempfile::tempdir().expect("a directory"));
        mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], disk.0.path());
        disk
    }

    pub fn path(&self) -> &Path {
        self.0.path()
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
    let output =
        Command::new("mount").args(arguments).arg(path).output().expect("mount is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cannot mount a file system: {text}; run this test as root");
}

/// Returns a fixture whose spool is on this disk.
fn fixture_on(disk: &Disk, sink: &ScriptedSink) -> Fixture {
    let mut fixture = Fixture::new([sink]);
    fixture.config.spool.directory = disk.0.path().join("spool");
    fixture
}

/// Returns a window of random text, about 50 KB in the spool after compression.
fn large_window(start_unix_ns: u64) -> Batch {
    let mut random = fastrand::Rng::with_seed(start_unix_ns);
    let text: String = (0..40_000).map(|_| random.alphanumeric()).collect();
    let text = format!("{start_unix_ns}{text}");
    batch(start_unix_ns, &[(&[("comm", &text)], 3)])
}

#[test]
fn a_full_disk_loses_the_newest_window() {
    let disk = Disk::new();
    let a = ScriptedSink::always(Action::Hang);
    let fixture = fixture_on(&disk, &a);
    let delivery = fixture.start();
    let full = (1..100).find_map(|start| delivery.accept(&large_window(start)).err());
    let refused = full.expect("100 of these exceed 1 MiB");
    assert_eq!((refused.reason, refused.sinks), (Failure::DiskFull, vec!["a".to_owned()]));
    let counts = delivery.counts();
    counts.check().expect("the ledger balances");
    assert_eq!(counts.refused.count(Failure::DiskFull), 1);
    let accepted = counts.accepted;
    assert_eq!(fixture.files("a").len() as u64, accepted);
    delivery.stop(Duration::ZERO);

    a.recover();
    let delivery = fixture.start();
    wait_until_delivered(&delivery);
    assert_eq!(a.delivered(), Vec::from_iter(1..=accepted));
    delivery.accept(&large_window(1_000)).expect("it fits again");
}

#[test]
fn a_read_only_disk_loses_windows_until_it_is_writable() {
    let disk = Disk::new();
    let a = ScriptedSink::with_actions([later(Failure::Unreachable)]);
    let fixture = Fixture { pacing: FROZEN, ..fixture_on(&disk, &a) };
    let delivery = fixture.start();
    accept_all(&delivery, [1]);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    disk.set_read_only(true);
    for start in 2..=4 {
        let refused = delivery.accept(&window(start)).expect_err("read-only");
        assert_eq!(refused.reason, Failure::ReadOnly);
    }
    let counts = delivery.counts();
    counts.check().expect("the ledger balances");
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::ReadOnly), 3);
    disk.set_read_only(false);
    accept_all(&delivery, [5]);
    let counts = delivery.stop(TEST_TIMEOUT);
    counts.check().expect("the ledger balances");
    assert_eq!(a.delivered(), [1, 5]);
}

#[test]
fn batches_on_a_read_only_disk_are_delivered_once() {
    let disk = Disk::new();
    let a = ScriptedSink::always(Action::Hang);
    let fixture = fixture_on(&disk, &a);
    let delivery = fixture.start();
    accept_all(&delivery, 1..=3);
    delivery.stop(Duration::ZERO);
    disk.set_read_only(true);
    a.recover();
    let delivery = fixture.start();
    let counts = wait_until_delivered(&delivery);
    assert_eq!(a.delivered(), [1, 2, 3]);
    assert_eq!(
        of(&counts, "a").ledger.to_string(),
        "found 3 + closed 0 = delivered 3 + pending 0 + lost 0"
    );
    delivery.stop(TEST_TIMEOUT);
}

#[test]
fn each_window_retries_to_open_the_spool() {
    let disk = Disk::new();
    disk.set_read_only(true);
    let a = ScriptedSink::default();
    let fixture = fixture_on(&disk, &a);
    let delivery = fixture.start();
    let refused = delivery.accept(&window(1)).expect_err("read-only");
    assert_eq!(
        refused.to_string(),
        "the spool did not accept a window for a: Read-only file system (os error 30); \
         make the directory writable, or configure another"
    );
    disk.set_read_only(false);
    accept_all(&delivery, [2]);
    wait_until_delivered(&delivery);
    assert_eq!(a.delivered(), [2]);
}

#[test]
fn a_broken_sink_directory_affects_only_its_sink() {
    let (a, b) = (ScriptedSink::default(), ScriptedSink::default());
    let fixture = Fixture::new([&a, &b]);
    let delivery = fixture.start();
    std::fs::write(fixture.config.spool.directory.join("a"), "not a directory").expect("written");
    let refused = delivery.accept(&window(1)).expect_err("lost for one sink");
    assert_eq!((refused.reason, refused.sinks), (Failure::Disk, vec!["a".to_owned()]));
    let counts = wait_until_delivered(&delivery);
    assert_eq!(b.delivered(), [1]);
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::Disk), 1);
}

#[test]
fn a_full_store_loses_nothing_while_the_spool_has_space() {
    let disk = Disk::new();
    let mut fixture = Fixture::new([&ScriptedSink::default()]);
    let store = disk.0.path().join("store");
    fixture.config.sinks[0].settings = SinkConfig::File(store_config(store.clone()));
    let ballast = disk.0.path().join("ballast");
    let _ = std::fs::write(&ballast, vec![1; 2 << 20]); // as much as fits
    let delivery = fixture.start();
    accept_all(&delivery, 1..=3);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.count(Failure::DiskFull) >= 2);
    std::fs::remove_file(ballast).expect("removed");
    let counts = wait_until_delivered(&delivery);
    assert_eq!(of(&counts, "a").ledger.delivered, 3);
    let listing = directory::windows_in(&store, 0, u64::MAX).expect("readable");
    assert_eq!(listing.windows.len(), 3);
}
