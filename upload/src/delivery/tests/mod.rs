//! The delivery with scripted sinks: outages, disk failures, damaged files, reloads and kills.

mod cpu_time;
mod crash;
mod damaged_files;
mod disk_failures;
mod drift;
mod file_size_limit;
mod locks;
mod outages;
mod reload;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::pacing::Pacing;
use super::shared::lock;
use super::{Counts, Delivery, DeliveryConfig, NamedSink, SinkCounts, StartError};
use crate::batch::{Answer, Batch, Failure, tests::batch};
use crate::cpu_allowance::{CpuAllowance, Unlimited};
use crate::sinks::scripted::{Action, ScriptedSink, delivered, later, rejected};
use crate::sinks::{SinkConfig, directory};
use crate::spool::SpoolConfig;

/// No pauses and a short backoff: an outage passes quickly.
const FAST: Pacing = Pacing {
    interval_min: Duration::ZERO,
    bytes_per_second: u64::MAX,
    backoff_min: Duration::from_millis(1),
    backoff_max: Duration::from_millis(4),
    retry_after_max: Duration::from_millis(4),
    lock_wait: Duration::ZERO,
    cpu_wait_max: Duration::from_secs(3_600),
    cpu_wait_max_local: Duration::from_secs(3_600),
};

/// Pauses and a backoff longer than any test: nothing is attempted twice by itself.
const FROZEN: Pacing = Pacing {
    interval_min: Duration::from_secs(3_600),
    bytes_per_second: u64::MAX,
    backoff_min: Duration::from_secs(3_600),
    backoff_max: Duration::from_secs(7_200),
    retry_after_max: Duration::from_secs(7_200),
    lock_wait: Duration::ZERO,
    cpu_wait_max: Duration::from_secs(3_600),
    cpu_wait_max_local: Duration::from_secs(3_600),
};

/// Time to wait for what must happen; only a defect exceeds it.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A spool in a temporary directory, and the sinks of one test.
struct Fixture {
    root: TempDir,
    config: DeliveryConfig,
    pacing: Pacing,
}

impl Fixture {
    /// Creates a fixture whose sinks are named `a`, `b` and so on.
    fn new<const N: usize>(sinks: [&ScriptedSink; N]) -> Self {
        let named = |(index, sink): (usize, &ScriptedSink)| NamedSink {
            name: char::from(b'a' + index as u8).to_string(),
            settings: SinkConfig::Scripted(sink.clone()),
        };
        let sinks = sinks.into_iter().enumerate().map(named).collect();
        let root = tempfile::tempdir().expect("a directory");
        let spool = SpoolConfig { directory: root.path().join("spool"), max_bytes: 1 << 30 };
        Self { root, config: DeliveryConfig { spool, sinks }, pacing: FAST }
    }

    /// Starts a delivery, as soon as an earlier one has unlocked the spool.
    fn start(&self) -> Delivery {
        let start = Instant::now();
        loop {
            match self.try_start() {
                Err(StartError::InUse(_)) if start.elapsed() < TEST_TIMEOUT => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                started => return started.expect("starts"),
            }
        }
    }

    fn try_start(&self) -> Result<Delivery, StartError> {
        self.start_within(Arc::new(Unlimited))
    }

    fn start_within(&self, allowance: Arc<dyn CpuAllowance>) -> Result<Delivery, StartError> {
        Delivery::start_with_pacing(self.pacing, allowance, &self.config, None)
    }

    /// Returns the files in a sink's spool directory, sorted.
    fn files(&self, sink: &str) -> Vec<PathBuf> {
        let directory = self.config.spool.directory.join(sink);
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(|p| p.is_file()).collect();
        files.sort_unstable();
        files
    }
}

fn window(start_unix_ns: u64) -> Batch {
    batch(start_unix_ns, &[(&[("comm", "a")], 3)])
}

fn store_config(directory: PathBuf) -> directory::Config {
    directory::Config { directory, ..directory::Config::default() }
}

fn accept_all(delivery: &Delivery, starts: impl IntoIterator<Item = u64>) {
    for start in starts {
        delivery.accept(&window(start)).expect("accepted");
    }
}

/// Waits until the counts satisfy a condition and returns them. The ledger balances all the time.
fn wait_until(delivery: &Delivery, condition: impl Fn(&Counts) -> bool) -> Counts {
    let start = Instant::now();
    loop {
        let counts = delivery.counts();
        counts.check().expect("the ledger balances");
        if condition(&counts) {
            return counts;
        }
        assert!(start.elapsed() < TEST_TIMEOUT, "timed out: {counts:#?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn wait_until_delivered(delivery: &Delivery) -> Counts {
    wait_until(delivery, |counts| counts.pending() == 0)
}

fn of<'a>(counts: &'a Counts, sink: &str) -> &'a SinkCounts {
    &counts.sinks[sink]
}

/// Flips a bit in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("written");
}
