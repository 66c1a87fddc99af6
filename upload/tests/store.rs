//! The `file` sink behind the delivery: the files in its directory, and their readers.
#![allow(clippy::unwrap_used)] // tests may panic

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use profile::pprof::proto as pb;
use upload::delivery::{Delivery, DeliveryConfig, NamedSink};
use upload::sinks::directory::{self, Listing, windows_in};
use upload::spool::SpoolConfig;
use upload::{Batch, SinkConfig};

const SECOND: u64 = 1_000_000_000;
/// 2026-11-25 01:44:00 UTC.
const START: u64 = 1_795_571_040 * SECOND;

/// Returns a window of 10 s with one stack in `function`, sampled `count` times.
fn window(start_unix_ns: u64, count: i64, function: &str) -> Batch {
    let texts = ["", "samples", "count", "cpu", "nanoseconds", "comm", "prog", function];
    let value = |r#type, unit| pb::ValueType { r#type, unit };
    let profile = pb::Profile {
        sample_type: vec![value(1, 2), value(3, 4)],
        sample: vec![pb::Sample {
            location_id: vec![1],
            value: vec![count, count * 10_000_000],
            label: vec![pb::Label { key: 5, str: 6, ..Default::default() }],
        }],
        location: vec![pb::Location {
            id: 1,
            mapping_id: 0,
            address: 16,
            line: vec![pb::Line { function_id: 1, line: 3 }],
        }],
        function: vec![pb::Function { id: 1, name: 7, system_name: 7, ..Default::default() }],
        string_table: texts.map(String::from).into(),
        time_nanos: start_unix_ns as i64,
        duration_nanos: 10 * SECOND as i64,
        period_type: Some(value(3, 4)),
        period: 10_000_000,
        ..Default::default()
    };
    Batch { profile }
}

/// Delivers batches to a sink and asserts that all are delivered.
fn deliver(root: &Path, settings: directory::Config, batches: &[Batch]) {
    let sinks = vec![NamedSink { name: "files".into(), settings: SinkConfig::File(settings) }];
    let spool = SpoolConfig { directory: root.join("spool"), ..Default::default() };
    let settings = DeliveryConfig { spool, sinks };
    let delivery = start(&settings);
    for batch in batches {
        delivery.accept(batch).unwrap();
    }
    let counts = delivery.stop(Duration::from_secs(60));
    counts.check().unwrap();
    assert_eq!(counts.sinks["files"].ledger.delivered, batches.len() as u64, "{counts:#?}");
}

fn start(settings: &DeliveryConfig) -> Delivery {
    let start = Instant::now();
    loop {
        match Delivery::start(settings, None) {
            Err(upload::StartError::InUse(_)) if start.elapsed() < Duration::from_secs(60) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            started => return started.unwrap(),
        }
    }
}

fn store(root: &Path) -> directory::Config {
    directory::Config { directory: root.join("store"), ..Default::default() }
}

fn with_bounds(
    root: &tempfile::TempDir,
    set: impl Fn(&mut directory::Retention),
) -> directory::Config {
    let mut config = store(root.path());
    set(&mut config.retention);
    config
}

fn names(store: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(store).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

fn starts(listing: &Listing) -> Vec<u64> {
    listing.windows.iter().map(|window| (window.start_unix_ns - START) / SECOND).collect()
}

#[test]
fn go_tool_pprof_reads_each_window() {
    let root = tempfile::tempdir().unwrap();
    deliver(root.path(), store(root.path()), &[window(START + 123_456_789, 7, "busy_loop")]);
    let path = root.path().join("store/20261125T014400.123Z.pb.gz");
    let output = Command::new("go")
        .args(["tool", "pprof", "-top", "-sample_index=samples"])
        .arg(&path)
        .output()
        .expect("go is installed by ./dev setup");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Duration: 10s"), "{text}");
    let line = text.lines().find(|line| line.contains("busy_loop")).unwrap();
    assert!(line.trim_start().starts_with("7 "), "{line}");
}

/// A single frame without a symbol makes pprof load the debug info of its executable, unless the
/// mapping claims functions: of sparse files of 4 GiB that took 22 GB.
#[test]
fn go_tool_pprof_opens_no_executable() {
    let root = tempfile::tempdir().unwrap();
    let mut batch = window(START, 7, "busy_loop");
    let filename = batch.profile.string_table.len() as i64;
    batch.profile.string_table.push("/nowhere/huge".into());
    batch.profile.mapping.push(pb::Mapping { id: 1, filename, ..Default::default() });
    let address = pb::Location { id: 2, mapping_id: 1, address: 0x1010, line: vec![] };
    batch.profile.location.push(address);
    batch.profile.sample[0].location_id.insert(0, 2);
    deliver(root.path(), store(root.path()), &[batch]);
    let path = root.path().join("store/20261125T014400.000Z.pb.gz");
    let top = |arguments: &[&str]| {
        let output = Command::new("go")
            .args(["tool", "pprof", "-top", "-sample_index=samples"])
            .args(arguments)
            .arg(&path)
            .output()
            .expect("go is installed by ./dev setup");
        assert!(output.status.success());
        let (text, errors) = (output.stdout, output.stderr);
        (String::from_utf8(text).unwrap(), String::from_utf8(errors).unwrap())
    };
    let (text, errors) = top(&[]);
    assert!(!errors.contains("symbolization"), "it searched for the executable: {errors}");
    assert!(text.contains("[huge]"), "{text}");
    let (_, errors) = top(&["-symbolize=force"]);
    assert!(errors.contains("Local symbolization failed for huge"), "{errors}");
}

#[test]
fn windows_of_a_time_range_are_found_after_restarts() {
    let root = tempfile::tempdir().unwrap();
    for run in 0..3 {
        let start = |n: u64| START + (run * 3 + n) * 10 * SECOND;
        let batches: Vec<_> = (0..3).map(|n| window(start(n), 1, "f")).collect();
        deliver(root.path(), store(root.path()), &batches);
    }
    let store = root.path().join("store");
    let all = windows_in(&store, 0, u64::MAX).unwrap();
    assert_eq!(starts(&all), [0, 10, 20, 30, 40, 50, 60, 70, 80]);
    assert!(all.windows.iter().all(|window| window.duration_ns == 10 * SECOND));
    let middle = windows_in(&store, START + 20 * SECOND, START + 50 * SECOND).unwrap();
    assert_eq!(starts(&middle), [20, 30, 40]);
    let first = windows_in(&store, 0, START + 20 * SECOND).unwrap();
    let last = windows_in(&store, START + 50 * SECOND, u64::MAX).unwrap();
    assert_eq!([starts(&first), starts(&middle), starts(&last)].concat(), starts(&all));
    assert_eq!(windows_in(&store, START, START).unwrap(), Listing::default());
    assert!(windows_in(&root.path().join("nowhere"), 0, u64::MAX).is_err());
}

#[test]
fn a_redelivered_window_replaces_its_copy() {
    let root = tempfile::tempdir().unwrap();
    let batches = [window(START, 1, "f"), window(START + 1, 2, "f"), window(START, 3, "f")];
    deliver(root.path(), store(root.path()), &batches);
    let store = root.path().join("store");
    assert_eq!(names(&store), ["20261125T014400.000Z-1.pb.gz", "20261125T014400.000Z.pb.gz"]);
    let all = windows_in(&store, START, START + 2).unwrap();
    let counts: Vec<i64> = all
        .windows
        .iter()
        .map(|window| directory::read(&window.path).unwrap().sample[0].value[0])
        .collect();
    assert_eq!(counts, [3, 2]);
}

#[test]
fn the_store_stays_within_max_bytes() {
    let root = tempfile::tempdir().unwrap();
    let settings = with_bounds(&root, |bounds| bounds.max_bytes = 4 * 4096);
    let batches: Vec<_> = (0..10).map(|n| window(START + n * SECOND, 1, "f")).collect();
    deliver(root.path(), settings, &batches);
    let left = windows_in(&root.path().join("store"), 0, u64::MAX).unwrap();
    assert_eq!(starts(&left), [6, 7, 8, 9]);
}

#[test]
fn windows_beyond_max_age_are_removed() {
    let root = tempfile::tempdir().unwrap();
    let settings = with_bounds(&root, |bounds| bounds.max_age = Duration::from_secs(25));
    let old = 1_000_000 * SECOND; // all windows are in the past
    let batches: Vec<_> = (0..6).map(|n| window(old + n * 10 * SECOND, 1, "f")).collect();
    deliver(root.path(), settings, &batches);
    let left = windows_in(&root.path().join("store"), 0, u64::MAX).unwrap();
    let starts: Vec<u64> = left.windows.iter().map(|w| (w.start_unix_ns - old) / SECOND).collect();
    assert_eq!(starts, [30, 40, 50]);
}

#[test]
fn a_clock_jump_removes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let year = 365 * 24 * 60 * 60 * SECOND;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = now.as_nanos() as u64;
    deliver(root.path(), store(root.path()), &[window(now, 1, "f"), window(now + year, 1, "f")]);
    assert_eq!(names(&root.path().join("store")).len(), 2);
}

#[test]
fn foreign_files_are_ignored_and_damaged_windows_listed() {
    let root = tempfile::tempdir().unwrap();
    deliver(
        root.path(),
        store(root.path()),
        &[window(START, 1, "f"), window(START + SECOND, 1, "f")],
    );
    let store = root.path().join("store");
    let file = |name: &str| -> PathBuf { store.join(name) };
    std::fs::write(file("notes.txt"), "mine").unwrap();
    std::fs::create_dir(file("20261125T014400.500Z.pb.gz")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", file("20261125T014400.501Z.pb.gz")).unwrap();
    std::fs::write(file("20261125T014400.600Z.pb.gz"), "").unwrap();
    std::fs::write(file("20261125T014400.700Z.pb.gz"), "no profile").unwrap();
    std::fs::copy(file("20261125T014400.000Z.pb.gz"), file("20261125T014400.800Z.pb.gz")).unwrap();
    std::fs::write(file(".Ab12Cd.tmp"), "half").unwrap(); // as left by a killed agent
    let listing = windows_in(&store, 0, u64::MAX).unwrap();
    assert_eq!((starts(&listing), listing.damaged.len()), (vec![0, 1], 3));

    // A file written by another program has no comment; its content is read instead.
    let plain = encoded(&window(START + 2 * SECOND, 1, "f"));
    std::fs::write(file("20261125T014402.000Z.pb.gz"), plain).unwrap();
    let listing = windows_in(&store, 0, u64::MAX).unwrap();
    assert_eq!(starts(&listing), [0, 1, 2]);

    // The next delivery keeps foreign files and removes temporary ones.
    deliver(
        root.path(),
        directory::Config { directory: store.clone(), ..Default::default() },
        &[window(START + 3 * SECOND, 1, "f")],
    );
    let names = names(&store);
    assert!(names.contains(&"notes.txt".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.ends_with(".tmp")), "{names:?}");
}

fn encoded(batch: &Batch) -> Vec<u8> {
    use prost::Message;
    batch.profile.encode_to_vec()
}

#[test]
fn a_window_larger_than_the_store_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let settings = with_bounds(&root, |bounds| bounds.max_bytes = 100);
    let sinks = vec![NamedSink { name: "files".into(), settings: SinkConfig::File(settings) }];
    let spool = SpoolConfig { directory: root.path().join("spool"), ..Default::default() };
    let delivery = start(&DeliveryConfig { spool, sinks });
    delivery.accept(&window(START, 1, "f")).unwrap();
    let counts = delivery.stop(Duration::from_secs(60));
    assert_eq!(counts.sinks["files"].ledger.lost.count(upload::Failure::TooLarge), 1);
}
