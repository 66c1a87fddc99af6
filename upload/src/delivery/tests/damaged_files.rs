//! Spool files that are damaged, missing or foreign.

use super::*;

/// Leaves windows 1 to 5 in the spool. Afterwards the sink works.
fn leave_windows(fixture: &Fixture, sink: &ScriptedSink) {
    let delivery = fixture.start();
    accept_all(&delivery, 1..=5);
    delivery.stop(Duration::ZERO);
    sink.recover();
    assert_eq!(fixture.files("a").len(), 5);
}

#[test]
fn damaged_files_are_quarantined_and_the_rest_delivered() {
    let a = ScriptedSink::always(Action::Hang);
    let fixture = Fixture::new([&a]);
    leave_windows(&fixture, &a);
    let files = fixture.files("a");
    damage(&files[1]);
    std::fs::write(&files[3], "").expect("written");
    let delivery = fixture.start();
    let counts = wait_until_delivered(&delivery);
    assert_eq!(counts.sinks["a"].ledger.lost.count(Failure::Damaged), 2);
    assert_eq!(counts.sinks["a"].quarantined, 2);
    assert_eq!(a.delivered(), [1, 3, 5]);
    let quarantine = fixture.config.spool.directory.join("a/damaged");
    assert_eq!(std::fs::read_dir(quarantine).expect("readable").count(), 2);
}

#[test]
fn a_damaged_file_is_followed_by_a_pause() {
    let a = ScriptedSink::always(Action::Hang);
    let mut fixture = Fixture::new([&a]);
    leave_windows(&fixture, &a);
    fixture.files("a").iter().take(2).for_each(|file| damage(file));
    fixture.pacing = FROZEN;
    let delivery = fixture.start();
    let lost = |counts: &Counts| of(counts, "a").ledger.lost.total();
    wait_until(&delivery, |counts| lost(counts) == 1);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(lost(&delivery.counts()), 1, "the next file waits");
}

/// Queues windows 1 to 3 and makes the file of the first fail with EIO. Returns its path.
///
/// Nothing is retried until a reload.
fn with_device_error(a: &ScriptedSink) -> (Fixture, Delivery, PathBuf) {
    let fixture =
        Fixture { pacing: Pacing { interval_min: Duration::ZERO, ..FROZEN }, ..Fixture::new([a]) };
    let delivery = fixture.start();
    accept_all(&delivery, 1..=3);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    let file = fixture.files("a").remove(0);
    std::fs::rename(&file, fixture.root.path().join("backup")).expect("moved");
    // Page 0 of a process is not mapped, so reading its memory at 0 fails with EIO.
    std::os::unix::fs::symlink("/proc/self/mem", &file).expect("created");
    (fixture, delivery, file)
}

#[test]
fn a_temporary_device_error_loses_no_window() {
    let a = ScriptedSink::with_actions([later(Failure::Unreachable)]);
    let (fixture, delivery, file) = with_device_error(&a);
    delivery.reload(&fixture.config).expect("valid");
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.count(Failure::Disk) == 1);
    std::fs::rename(fixture.root.path().join("backup"), file).expect("moved");
    delivery.reload(&fixture.config).expect("valid");
    let counts = wait_until_delivered(&delivery);
    assert_eq!((a.delivered(), of(&counts, "a").ledger.lost.total()), (vec![1, 2, 3], 0));
}

#[test]
fn ten_device_errors_quarantine_the_file() {
    let a = ScriptedSink::with_actions([later(Failure::Unreachable)]);
    let (fixture, delivery, _) = with_device_error(&a);
    for times in 1..10 {
        delivery.reload(&fixture.config).expect("valid");
        wait_until(&delivery, |counts| {
            of(counts, "a").attempts.later.count(Failure::Disk) == times
        });
    }
    assert_eq!(of(&delivery.counts(), "a").ledger.lost.total(), 0);
    delivery.reload(&fixture.config).expect("valid");
    let counts = wait_until_delivered(&delivery);
    assert_eq!((a.delivered(), of(&counts, "a").quarantined), (vec![2, 3], 1));
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::Damaged), 1);
}

#[test]
fn a_file_removed_while_waiting_is_counted_as_lost() {
    let a = ScriptedSink::with_actions([later(Failure::Unreachable)]);
    let fixture = Fixture { pacing: FROZEN, ..Fixture::new([&a]) };
    let delivery = fixture.start();
    accept_all(&delivery, 1..=3);
    wait_until(&delivery, |counts| of(counts, "a").attempts.later.total() == 1);
    std::fs::remove_file(&fixture.files("a")[1]).expect("removed");
    let counts = delivery.stop(TEST_TIMEOUT);
    counts.check().expect("the ledger balances");
    assert_eq!(a.delivered(), [1, 3]);
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::Damaged), 1);
}

#[test]
fn foreign_files_are_ignored() {
    let a = ScriptedSink::default();
    let fixture = Fixture::new([&a]);
    let directory = fixture.config.spool.directory.join("a");
    std::fs::create_dir_all(directory.join("00000000000000000001-000000.pprof.zst"))
        .expect("created");
    std::fs::write(directory.join("notes.txt"), "mine").expect("written");
    let link = directory.join("00000000000000000002-000000.pprof.zst");
    std::os::unix::fs::symlink("/etc/passwd", &link).expect("created");
    let delivery = fixture.start();
    accept_all(&delivery, [3]);
    let counts = wait_until_delivered(&delivery);
    assert_eq!(of(&counts, "a").ledger.found, 0);
    assert_eq!(a.delivered(), [3]);
    assert_eq!(std::fs::read_dir(&directory).expect("readable").count(), 3);
}

#[test]
fn a_removed_spool_is_recreated() {
    let a = ScriptedSink::default();
    let fixture = Fixture::new([&a]);
    let delivery = fixture.start();
    accept_all(&delivery, [1]);
    wait_until_delivered(&delivery);
    std::fs::remove_dir_all(&fixture.config.spool.directory).expect("removed");
    accept_all(&delivery, [2]);
    wait_until_delivered(&delivery);
    assert_eq!(a.delivered(), [1, 2]);
}
