//! A small limit of the size of files (`ulimit -f`): like a full disk.

use std::process::Command;

use super::*;

/// Returns a window of random text, larger than the limit of 16 KiB.
fn large_window(start_unix_ns: u64) -> Batch {
    let mut random = fastrand::Rng::with_seed(start_unix_ns);
    let text: String = (0..60_000).map(|_| random.alphanumeric()).collect();
    batch(start_unix_ns, &[(&[("comm", &text)], 3)])
}

/// Runs a test of this binary with a limit of 16 KiB. The signal is ignored, as the agent does.
fn run_limited(test: &str) {
    let script = "trap '' XFSZ; ulimit -f 16; exec \"$@\"";
    let output = Command::new("bash")
        .args(["-c", script, "bash"])
        .arg(std::env::current_exe().expect("a path"))
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .expect("bash is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

#[test]
fn spool_and_store_survive_a_limit_of_the_size_of_files() {
    run_limited("delivery::tests::file_size_limit::limited_spool");
    run_limited("delivery::tests::file_size_limit::limited_store");
    run_limited("delivery::tests::file_size_limit::limited_export");
}

#[test]
#[ignore = "run with a limit by another test"]
fn limited_spool() {
    let a = ScriptedSink::default();
    let fixture = Fixture::new([&a]);
    let delivery = fixture.start();
    accept_all(&delivery, [1]);
    let refused = delivery.accept(&large_window(2)).expect_err("larger than a file may be");
    assert_eq!(refused.reason, Failure::DiskFull);
    let text = refused.to_string();
    assert!(text.contains("File too large") && text.contains("ulimit -f"), "{text}");
    accept_all(&delivery, [3]);
    let counts = wait_until_delivered(&delivery);
    assert_eq!(a.delivered(), [1, 3]);
    assert_eq!(of(&counts, "a").ledger.lost.count(Failure::DiskFull), 1);
    let left = std::fs::read_dir(&fixture.config.spool.directory).expect("readable").flatten();
    let is_temporary = |name: &std::ffi::OsStr| name.to_string_lossy().ends_with(".tmp");
    assert_eq!(left.filter(|entry| is_temporary(&entry.file_name())).count(), 0);
}

#[test]
#[ignore = "run with a limit by another test"]
fn limited_store() {
    let root = tempfile::tempdir().expect("a directory");
    let store = root.path().join("store");
    let mut sink = directory::Sink::new(&store_config(store.clone()), None).expect("valid");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut send = |batch: &Batch| runtime.block_on(sink.send(batch));
    assert!(matches!(send(&window(1)), Answer::Delivered { .. }));
    let answer = send(&large_window(2_000_000));
    let Answer::Later { reason, text, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(reason, Failure::DiskFull, "{text}");
    assert!(matches!(send(&window(3_000_000)), Answer::Delivered { .. }));
    let listing = directory::windows_in(&store, 0, u64::MAX).expect("readable");
    assert_eq!((listing.windows.len(), listing.damaged.len()), (2, 0));
    assert_eq!(std::fs::read_dir(&store).expect("readable").count(), 2);
}

#[test]
#[ignore = "run with a limit by another test"]
fn limited_export() {
    let root = tempfile::tempdir().expect("a directory");
    let path = root.path().join("x.pb.gz");
    std::fs::write(&path, "before").expect("small enough");
    let error = crate::output::replace(&path, &[1; 64 << 10]).expect_err("too large").to_string();
    assert!(error.contains("File too large") && error.contains("ulimit -f"), "{error}");
    assert_eq!(std::fs::read(&path).expect("unchanged"), b"before");
    assert_eq!(std::fs::read_dir(root.path()).expect("readable").count(), 1);
}
