//! SIGKILL at random moments: no accepted window is lost or torn.
//!
//! `tests/synced.rs` covers what a power loss adds: contents and directory entries are on disk
//! before a window is accepted.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use super::*;

/// Environment of the child: its working directory and the number of its first window.
const DIRECTORY: &str = "EVERYTICK_TEST_DIRECTORY";
const FIRST: &str = "EVERYTICK_TEST_FIRST";

/// Processes killed one after the other.
const RUNS: u64 = 100;

/// Most windows of one run.
const WINDOWS: u64 = 10_000;

fn config(root: &Path) -> DeliveryConfig {
    let store = SinkConfig::File(store_config(root.join("store")));
    let hanging = SinkConfig::Scripted(ScriptedSink::always(Action::Hang));
    let sinks = vec![
        NamedSink { name: "store".into(), settings: store },
        NamedSink { name: "hanging".into(), settings: hanging },
    ];
    let spool = SpoolConfig { directory: root.join("spool"), max_bytes: 1 << 30 };
    DeliveryConfig { spool, sinks }
}

/// Returns a window. One in three is larger than a single write of a file system.
fn window_of(start_unix_ns: u64) -> Batch {
    if !start_unix_ns.is_multiple_of(3) {
        return window(start_unix_ns);
    }
    let mut random = fastrand::Rng::with_seed(start_unix_ns);
    let text: String = (0..100_000).map(|_| random.alphanumeric()).collect();
    batch(start_unix_ns, &[(&[("comm", &text)], 1)])
}

/// Returns the start of a window: a millisecond of its own, so that names in the store differ.
fn start_of(number: u64) -> u64 {
    number * 1_000_000
}

#[test]
fn sigkill_at_any_moment_loses_no_accepted_window() {
    let root = tempfile::tempdir().expect("a directory");
    let mut random = fastrand::Rng::with_seed(6);
    let mut accepted = BTreeSet::new();
    for run in 0..RUNS {
        let delay = Duration::from_micros(random.u64(0..20_000));
        accepted.extend(run_until_killed(root.path(), run * WINDOWS + 1, delay));
    }
    assert!(accepted.len() as u64 >= RUNS);

    let mut config = config(root.path());
    let recovered = ScriptedSink::default();
    config.sinks[1].settings = SinkConfig::Scripted(recovered.clone());
    let delivery =
        Delivery::start_with_pacing(FAST, Arc::new(Unlimited), &config, None).expect("starts");
    let counts = wait_until_delivered(&delivery);
    for sink in counts.sinks.values() {
        assert_eq!((sink.ledger.lost.total(), sink.quarantined), (0, 0));
    }
    let delivered = recovered.delivered();
    assert!(delivered.is_sorted());
    assert!(accepted.is_subset(&delivered.into_iter().collect()));
    check_store(&root.path().join("store"), &accepted);
}

/// Asserts that the store has every accepted window, and that each of its windows is intact.
fn check_store(store: &Path, accepted: &BTreeSet<u64>) {
    let listing = directory::windows_in(store, 0, u64::MAX).expect("readable");
    assert_eq!((listing.damaged.len(), listing.left_out), (0, 0));
    let mut stored = BTreeSet::new();
    for window in listing.windows {
        let profile = directory::read(&window.path).expect("intact");
        assert!(profile == window_of(window.start_unix_ns).profile, "{}", window.path.display());
        stored.insert(window.start_unix_ns);
    }
    assert!(accepted.is_subset(&stored));
}

/// Runs a child, kills it this long after its first accepted window, and returns the windows that
/// it reported as accepted.
fn run_until_killed(root: &Path, first: u64, delay: Duration) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "delivery::tests::crash::accepts_until_killed", "--ignored"])
        .arg("--nocapture")
        .env(DIRECTORY, root)
        .env(FIRST, first.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut text = String::new();
    stderr.read_line(&mut text).expect("readable");
    std::thread::sleep(delay);
    child.kill().expect("running");
    child.wait().expect("ended");
    stderr.read_to_string(&mut text).expect("readable");
    let number = |line: &str| line.parse::<u64>().unwrap_or_else(|_| panic!("the child: {text}"));
    text.lines().map(number).collect()
}

#[test]
#[ignore = "the child of sigkill_at_any_moment_loses_no_accepted_window"]
fn accepts_until_killed() {
    let root = PathBuf::from(std::env::var_os(DIRECTORY).expect("set by the parent"));
    let first: u64 = std::env::var(FIRST).expect("set by the parent").parse().expect("a number");
    let delivery = Delivery::start_with_pacing(FAST, Arc::new(Unlimited), &config(&root), None)
        .expect("starts");
    for number in first..first + WINDOWS {
        let start = start_of(number);
        delivery.accept(&window_of(start)).expect("accepted");
        std::io::stderr().write_all(format!("{start}\n").as_bytes()).expect("a pipe");
    }
    std::thread::sleep(TEST_TIMEOUT); // until it is killed
}
