//! The order of syncs, observed with strace.
//!
//! Before a window is accepted, its content and each of its directory entries are synced. Before it
//! is removed from the spool, its copy in the store is synced. A power loss can therefore not lose
//! an accepted window.
#![allow(clippy::unwrap_used)] // tests may panic

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use profile::pprof::proto as pb;
use upload::delivery::{Delivery, DeliveryConfig, NamedSink};
use upload::sinks::directory;
use upload::spool::SpoolConfig;
use upload::{Batch, SinkConfig};

/// Environment variable with the child's working directory.
const DIRECTORY: &str = "EVERYTICK_TEST_DIRECTORY";

/// Output of the child when the window is accepted.
const ACCEPTED: &str = "accepted";

/// System calls to trace.
const CALLS: &str = "trace=fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat,\
                     mkdir,mkdirat,write";

#[test]
fn windows_are_synced_before_acceptance_and_before_removal() {
    let root = tempfile::tempdir().unwrap();
    let trace = root.path().join("trace");
    let output = Command::new("strace")
        .args(["-ff", "-y", "-s", "256", "-e", CALLS, "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "accepts_and_delivers_one_window", "--ignored", "--nocapture"])
        .env(DIRECTORY, root.path())
        .output()
        .expect("strace is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let spool = root.path().join("spool");
    let accepting = thread_with(root.path(), &["linkat("]);
    let at = |needles: &[&str]| position(&accepting, needles);
    let in_spool = |name: &str| spool.join(name).display().to_string();
    assert_in_order(&[
        at(&["mkdir", &format!("\"{}\"", spool.display())]),
        at(&["fsync(", &format!("<{}>)", root.path().display()), "= 0"]),
        at(&["write(", ".tmp>"]),
        at(&["fsync(", ".tmp>)", "= 0"]),
        at(&["mkdir", &format!("\"{}\"", in_spool("a"))]),
        at(&["fsync(", &format!("<{}>)", spool.display()), "= 0"]),
        at(&["linkat(", &in_spool("a/"), ".pprof.zst", "= 0"]),
        at(&["fsync(", &format!("<{}>)", in_spool("a")), "= 0"]),
        at(&["mkdir", &format!("\"{}\"", in_spool("b"))]),
        at(&["linkat(", &in_spool("b/"), ".pprof.zst", "= 0"]),
        at(&["fsync(", &format!("<{}>)", in_spool("b")), "= 0"]),
        at(&["write(", ACCEPTED]),
    ]);

    for (sink, store) in [("a", root.path().join("store-a")), ("b", root.path().join("store-b"))] {
        let name = store.display().to_string();
        let delivering = thread_with(root.path(), &["rename", &name]);
        let at = |needles: &[&str]| position(&delivering, needles);
        assert_in_order(&[
            at(&["fsync(", &name, ".tmp>)", "= 0"]),
            at(&["rename", &name, ".pb.gz", "= 0"]),
            at(&["fsync(", &format!("<{name}>)"), "= 0"]),
            at(&["unlink", &in_spool(&format!("{sink}/")), ".pprof.zst", "= 0"]),
        ]);
    }
}

/// Returns the calls of the thread that made a call with all of these substrings.
fn thread_with(root: &Path, needles: &[&str]) -> Vec<String> {
    let files = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let traces =
        files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("trace."));
    let threads = traces.map(|path| {
        let text = std::fs::read(path).unwrap();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect::<Vec<_>>()
    });
    let has_call = |calls: &Vec<String>| calls.iter().any(|call| has(call, needles));
    threads.into_iter().find(has_call).unwrap_or_else(|| panic!("no thread made {needles:?}"))
}

fn has(call: &str, needles: &[&str]) -> bool {
    needles.iter().all(|needle| call.contains(needle))
}

fn position(calls: &[String], needles: &[&str]) -> (usize, String) {
    let index = calls.iter().position(|call| has(call, needles));
    let index = index.unwrap_or_else(|| panic!("no {needles:?} in\n{}", calls.join("\n")));
    (index, calls[index].clone())
}

fn assert_in_order(calls: &[(usize, String)]) {
    assert!(calls.is_sorted(), "out of order: {calls:#?}");
}

#[test]
#[ignore = "the child of the test above"]
fn accepts_and_delivers_one_window() {
    let root = PathBuf::from(std::env::var_os(DIRECTORY).expect("set by the parent"));
    let sink = |name: &str| {
        let directory = root.join(format!("store-{name}"));
        let settings = directory::Config { directory, ..Default::default() };
        NamedSink { name: name.into(), settings: SinkConfig::File(settings) }
    };
    let spool = SpoolConfig { directory: root.join("spool"), ..Default::default() };
    let config = DeliveryConfig { spool, sinks: vec![sink("a"), sink("b")] };
    let delivery = Delivery::start(&config, None).unwrap();
    let profile = pb::Profile {
        time_nanos: 1_795_571_040_123_456_789,
        string_table: vec![String::new()],
        ..Default::default()
    };
    delivery.accept(&Batch { profile }).unwrap();
    std::io::stderr().write_all(ACCEPTED.as_bytes()).unwrap();
    let counts = delivery.stop(Duration::from_secs(60));
    counts.check().unwrap();
    assert_eq!(counts.pending(), 0);
}
