//! Sinks that come and go, and a disk that is full and empty again: nothing grows.

use super::disk_failures::Disk;
use super::*;

/// Returns the open files and threads of this process.
fn open_files_and_threads() -> (usize, usize) {
    let count = |path: &str| std::fs::read_dir(path).expect("readable").count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// Returns the resident memory of this process in bytes.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("readable");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("a number") * 4096
}

/// Runs this in a process of its own: other tests open files at the same time.
#[test]
fn outages_and_reloads_leave_no_file_and_no_thread() {
    let output = std::process::Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "delivery::tests::drift::rounds_of_outages", "--ignored"])
        .args(["--nocapture", "--test-threads=1"])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

#[test]
#[ignore = "run alone by another test"]
fn rounds_of_outages() {
    let (a, b) = (ScriptedSink::default(), ScriptedSink::default());
    let mut fixture = Fixture::new([&a, &b]);
    let disk = Disk::new();
    let (store, ballast) = (disk.path().join("store"), disk.path().join("ballast"));
    let file = NamedSink { name: "file".into(), settings: SinkConfig::File(store_config(store)) };
    fixture.config.sinks.push(file);
    let delivery = fixture.start();
    let (mut start, mut after_warm_up, mut memory) = (1_000_000, None, 0);
    for round in 0..30 {
        a.set_script([later(Failure::Unreachable), rejected(Failure::Rejected), Action::Panic]);
        accept_all(&delivery, start..start + 5);
        start += 5;
        // One sink goes and comes back; its batches stay in the spool meanwhile.
        let mut without = fixture.config.clone();
        without.sinks.retain(|sink| sink.name != "b");
        delivery.reload(&without).expect("valid");
        accept_all(&delivery, start..start + 2);
        start += 2;
        delivery.reload(&fixture.config).expect("valid");
        if round % 5 == 0 {
            wait_until_delivered(&delivery);
            let full = |counts: &Counts| of(counts, "file").attempts.later.count(Failure::DiskFull);
            let before = full(&delivery.counts());
            let _ = std::fs::write(&ballast, vec![1; 2 << 20]); // as much as fits
            accept_all(&delivery, start..start + 1);
            start += 1;
            wait_until(&delivery, |counts| full(counts) > before + 2);
            std::fs::remove_file(&ballast).expect("removed");
        }
        wait_until_delivered(&delivery);
        if round == 9 {
            (after_warm_up, memory) = (Some(open_files_and_threads()), resident_bytes());
        }
    }
    // The thread of a removed sink ends a moment later.
    let settled = || Some(open_files_and_threads()) <= after_warm_up;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !settled() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(settled(), "{:?}, before {after_warm_up:?}", open_files_and_threads());
    let grown = resident_bytes().saturating_sub(memory);
    assert!(grown < 8 << 20, "memory has grown by {grown} bytes");
    let counts = delivery.stop(TEST_TIMEOUT);
    counts.check().expect("the ledger balances");
    let sink = of(&counts, "file");
    assert_eq!((sink.ledger.delivered, sink.ledger.lost.total()), (30 * 7 + 6, 0));
}
