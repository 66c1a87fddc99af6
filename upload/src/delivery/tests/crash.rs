//! kill -9 at any moment: no accepted window is lost, and none is torn.
//!
//! What a power loss adds, that content and names are on the disk before a window is
//! accepted, is what `tests/synced.rs` sees.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::*;

/// Tells the child where to work and which number its first window has.
const DIRECTORY: &str = "EVERYTICK_TEST_DIRECTORY";
const FIRST: &str = "EVERYTICK_TEST_FIRST";

const LIVES: u64 = 100;

/// Most windows of one life.
const WINDOWS: u64 = 10_000;

fn settings(root: &Path) -> Settings {
    let store = crate::sinks::directory::Settings {
        directory: root.join("store"),
        ..crate::sinks::directory::Settings::default()
    };
    let waits = SinkSettings::Scripted(Script::always(Act::Hang));
    let sinks = vec![
        NamedSink { name: "store".into(), settings: SinkSettings::File(store) },
        NamedSink { name: "waits".into(), settings: waits },
    ];
    let spool = spool::Settings { directory: root.join("spool"), bytes_max: 1 << 30 };
    Settings { spool, sinks }
}

/// One window in three is large: more than one write of a file system.
fn window_of(start_unix_ns: u64) -> Batch {
    if !start_unix_ns.is_multiple_of(3) {
        return window(start_unix_ns);
    }
    let mut random = fastrand::Rng::with_seed(start_unix_ns);
    let text: String = (0..100_000).map(|_| random.alphanumeric()).collect();
    batch(start_unix_ns, &[(&[("comm", &text)], 1)])
}

/// A millisecond for each window: their names in the store differ.
fn start_of(number: u64) -> u64 {
    number * 1_000_000
}

#[test]
fn killed_at_any_moment_no_accepted_window_is_lost() {
    let root = tempfile::tempdir().expect("a directory");
    let mut random = fastrand::Rng::with_seed(6);
    let mut accepted = BTreeSet::new();
    for life in 0..LIVES {
        let moment = Duration::from_micros(random.u64(0..20_000));
        accepted.extend(one_life(root.path(), life * WINDOWS + 1, moment));
    }
    assert!(accepted.len() as u64 >= LIVES);

    let mut settings = settings(root.path());
    let waits = Script::default();
    settings.sinks[1].settings = SinkSettings::Scripted(waits.clone());
    let delivery = Delivery::start_at(QUICK, &settings, None).expect("it starts");
    let counts = wait_until_nothing_waits(&delivery);
    for sink in counts.sinks.values() {
        assert_eq!((sink.ledger.lost.total(), sink.set_aside), (0, 0));
    }
    let arrived = waits.delivered();
    assert!(arrived.is_sorted());
    assert!(accepted.is_subset(&arrived.into_iter().collect()));
    check_store(&root.path().join("store"), &accepted);
}

/// Each accepted window is in the store, and each window there is whole.
fn check_store(store: &Path, accepted: &BTreeSet<u64>) {
    let listing = crate::sinks::directory::windows_in(store, 0, u64::MAX).expect("there");
    assert_eq!((listing.damaged.len(), listing.left_out), (0, 0));
    let mut stored = BTreeSet::new();
    for window in listing.windows {
        let profile = crate::sinks::directory::read(&window.path).expect("whole");
        assert!(profile == window_of(window.start_unix_ns).profile, "{}", window.path.display());
        stored.insert(window.start_unix_ns);
    }
    assert!(accepted.is_subset(&stored));
}

/// Runs a child until so long after it has accepted its first window, kills it, and gives what
/// it said that it had accepted.
fn one_life(root: &Path, first: u64, moment: Duration) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().expect("a program"))
        .args(["--exact", "delivery::tests::crash::accepts_until_it_is_killed", "--ignored"])
        .arg("--nocapture")
        .env(DIRECTORY, root)
        .env(FIRST, first.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut text = String::new();
    lines.read_line(&mut text).expect("readable");
    std::thread::sleep(moment);
    child.kill().expect("it runs");
    child.wait().expect("it has ended");
    std::io::Read::read_to_string(&mut lines, &mut text).expect("readable");
    let number = |line: &str| line.parse::<u64>().unwrap_or_else(|_| panic!("the child: {text}"));
    text.lines().map(number).collect()
}

#[test]
#[ignore = "the child of killed_at_any_moment_no_accepted_window_is_lost"]
fn accepts_until_it_is_killed() {
    let root = PathBuf::from(std::env::var_os(DIRECTORY).expect("only the story above starts it"));
    let first: u64 = std::env::var(FIRST).expect("as above").parse().expect("a number");
    let delivery = Delivery::start_at(QUICK, &settings(&root), None).expect("it starts");
    for number in first..first + WINDOWS {
        let start = start_of(number);
        delivery.accept(&window_of(start)).expect("there is room");
        std::io::stderr().write_all(format!("{start}\n").as_bytes()).expect("a pipe");
    }
    std::thread::sleep(PATIENCE); // until it is killed
}
