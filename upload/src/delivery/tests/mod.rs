//! Stories about the delivery, told with sinks that do what a script says.

mod crash;
mod damage;
mod disks;
mod reload;
mod stories;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::pace::Pace;
use super::{Counts, Delivery, NamedSink, Settings, SinkCounts, lock};
use crate::batch::{Answer, Batch, Failure, tests::batch};
use crate::sinks::{SinkSettings, StartError};
use crate::spool;

/// No rest, and short waits: an outage passes quickly.
const QUICK: Pace = Pace {
    between: Duration::ZERO,
    bytes_per_second: u64::MAX,
    wait_min: Duration::from_millis(1),
    wait_max: Duration::from_millis(4),
    asked_max: Duration::from_millis(4),
};

/// A rest and waits longer than any test: nothing happens twice by itself.
const SLOW: Pace = Pace {
    between: Duration::from_secs(3_600),
    bytes_per_second: u64::MAX,
    wait_min: Duration::from_secs(3_600),
    wait_max: Duration::from_secs(7_200),
    asked_max: Duration::from_secs(7_200),
};

/// How long a test waits for what must come; only a defect takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a scripted sink does with a batch.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers.
    Say(Answer),
    /// Never answers.
    Hang,
    /// Blocks its thread until this is free, then delivers.
    Block(Arc<Mutex<()>>),
    /// Dies of a defect.
    Panic,
}

/// A sink that does what it is told, and remembers what came. Clones are the same sink.
#[derive(Clone, Debug, Default)]
pub struct Script(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What is done with the next batches.
    acts: VecDeque<Act>,
    /// What is done then; `None`: all is delivered.
    then: Option<Act>,
    /// When the windows began that came, each time they came.
    came: Vec<u64>,
    /// When the windows began that were delivered.
    delivered: Vec<u64>,
    /// How often a sink was made of it.
    starts: u64,
    /// It cannot start.
    is_wrong: bool,
}

impl PartialEq for Script {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Script {
    /// Does these, then delivers all.
    fn of(acts: impl IntoIterator<Item = Act>) -> Self {
        let script = Self::default();
        lock(&script.0).acts = acts.into_iter().collect();
        script
    }

    /// Does this always.
    fn always(act: Act) -> Self {
        let script = Self::default();
        lock(&script.0).then = Some(act);
        script
    }

    /// Delivers all from now on.
    fn heal(&self) {
        let mut state = lock(&self.0);
        state.acts.clear();
        state.then = None;
    }

    fn came(&self) -> Vec<u64> {
        lock(&self.0).came.clone()
    }

    fn delivered(&self) -> Vec<u64> {
        lock(&self.0).delivered.clone()
    }

    fn starts(&self) -> u64 {
        lock(&self.0).starts
    }

    pub(crate) fn start(&self) -> Result<Self, StartError> {
        let mut state = lock(&self.0);
        if state.is_wrong {
            return Err(StartError::Settings("it is wrong; make it right".to_owned()));
        }
        state.starts += 1;
        Ok(self.clone())
    }

    pub(crate) async fn send(&mut self, batch: &Batch) -> Answer {
        match self.act(batch.start_unix_ns()) {
            Act::Say(answer) => answer,
            Act::Hang => std::future::pending().await,
            Act::Block(gate) => {
                drop(lock(&gate));
                Answer::Delivered { bytes: 100 }
            }
            Act::Panic => panic!("as the script says"),
        }
    }

    fn act(&self, start_unix_ns: u64) -> Act {
        let mut state = lock(&self.0);
        state.came.push(start_unix_ns);
        let act = state.acts.pop_front().or_else(|| state.then.clone()).unwrap_or(delivered());
        if let Act::Say(Answer::Delivered { .. } | Answer::Partly { .. }) = &act {
            state.delivered.push(start_unix_ns);
        }
        act
    }
}

fn delivered() -> Act {
    Act::Say(Answer::Delivered { bytes: 100 })
}

fn later(reason: Failure) -> Act {
    Act::Say(Answer::Later { reason, after: None, text: "not now".to_owned() })
}

fn refused(reason: Failure) -> Act {
    Act::Say(Answer::Refused { reason, text: "never".to_owned() })
}

/// A spool of its own and the sinks of one story.
struct Story {
    root: TempDir,
    settings: Settings,
    pace: Pace,
}

impl Story {
    /// A story of these sinks, which are called `a`, `b` and so on.
    fn of<const N: usize>(scripts: [&Script; N]) -> Self {
        let named = |(place, script): (usize, &Script)| NamedSink {
            name: char::from(b'a' + place as u8).to_string(),
            settings: SinkSettings::Scripted(script.clone()),
        };
        let sinks = scripts.into_iter().enumerate().map(named).collect();
        let root = tempfile::tempdir().expect("a directory");
        let spool = spool::Settings { directory: root.path().join("spool"), bytes_max: 1 << 30 };
        Self { root, settings: Settings { spool, sinks }, pace: QUICK }
    }

    /// Starts, as soon as an earlier life has let go of the spool.
    fn start(&self) -> Delivery {
        let start = Instant::now();
        loop {
            match self.try_start() {
                Err(StartError::InUse(_)) if start.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                started => return started.expect("it starts"),
            }
        }
    }

    fn try_start(&self) -> Result<Delivery, StartError> {
        Delivery::start_at(self.pace, &self.settings, None)
    }

    /// Files of batches in a sink's directory, in order.
    fn files(&self, sink: &str) -> Vec<PathBuf> {
        let directory = self.settings.spool.directory.join(sink);
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(|p| p.is_file()).collect();
        files.sort_unstable();
        files
    }
}

/// A window that began then.
fn window(start_unix_ns: u64) -> Batch {
    batch(start_unix_ns, &[(&[("comm", "a")], 3)])
}

fn accept_all(delivery: &Delivery, starts: impl IntoIterator<Item = u64>) {
    for start in starts {
        delivery.accept(&window(start)).expect("there is room");
    }
}

/// Waits until it is so, and gives the counts of that moment; the books are right all the time.
fn wait_until(delivery: &Delivery, is_so: impl Fn(&Counts) -> bool) -> Counts {
    let start = Instant::now();
    loop {
        let counts = delivery.counts();
        counts.check().expect("the ledger closes");
        if is_so(&counts) {
            return counts;
        }
        assert!(start.elapsed() < PATIENCE, "it never happened: {counts:#?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn wait_until_nothing_waits(delivery: &Delivery) -> Counts {
    wait_until(delivery, |counts| counts.pending() == 0)
}

fn of<'a>(counts: &'a Counts, sink: &str) -> &'a SinkCounts {
    &counts.sinks[sink]
}

/// Turns one bit in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("written");
}
