//! The keeper: one thread that knows the processes, resolves each sample and counts it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use profile::Pid;

use super::{Progress, Scan};
use crate::aggregate::Aggregator;
use crate::events::{Batch, Event, Orderer, Timed};
use crate::processes::{Executables, Processes, scan, scan_process};

/// The running keeper.
pub(super) struct Keeper {
    thread: JoinHandle<Kept>,
    scanned: Receiver<()>,
}

/// What the keeper knows in the end.
pub(super) struct Kept {
    pub processes: Processes,
    pub aggregator: Aggregator,
    pub side_band_lost: u64,
}

impl Keeper {
    /// Starts the keeper. It passes over /proc, then takes batches until there are no more.
    pub fn spawn(
        batches: Receiver<Batch>,
        scope: Scan,
        window_bytes: usize,
        progress: Arc<Progress>,
    ) -> io::Result<Self> {
        let (done, scanned) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("keeper".into()).spawn(move || {
            let mut state = State::new(window_bytes);
            state.scan(scope);
            let _ = done.send(()); // nobody waits any more: the start has failed
            for batch in batches {
                state.take(batch);
                progress
                    .samples
                    .store(state.kept.aggregator.ledger().aggregated, Ordering::Relaxed);
            }
            state.finish()
        })?;
        Ok(Self { thread, scanned })
    }

    /// Waits until what ran before is known.
    pub fn wait_for_scan(&self) {
        let _ = self.scanned.recv(); // an error means that the keeper died: finish() tells
    }

    /// Waits until every batch is taken.
    pub fn finish(self) -> io::Result<Kept> {
        self.thread.join().map_err(|_| io::Error::other("the keeper died"))
    }
}

struct State {
    kept: Kept,
    order: Orderer,
}

impl State {
    fn new(window_bytes: usize) -> Self {
        let processes = Processes::new(Executables::new(open_files_max()));
        let aggregator = Aggregator::new(window_bytes);
        let kept = Kept { processes, aggregator, side_band_lost: 0 };
        Self { kept, order: Orderer::default() }
    }

    fn scan(&mut self, scope: Scan) {
        let processes = &mut self.kept.processes;
        match scope {
            Scan::All => scan().for_each(|scanned| processes.learn(&scanned)),
            Scan::Only(pids) => {
                let found = pids.into_iter().filter_map(scan_process);
                found.for_each(|scanned| processes.learn(&scanned));
            }
        }
    }

    fn take(&mut self, batch: Batch) {
        self.kept.side_band_lost += batch.side_band_lost;
        self.kept.aggregator.received(batch.received, batch.malformed);
        for timed in &batch.events {
            if let Event::Mapped(mapped) = &timed.event {
                self.kept.processes.prepare(mapped);
            }
        }
        self.order.add(batch.events);
        for timed in self.order.ready(batch.drained) {
            self.kept.apply(timed);
        }
    }

    fn finish(mut self) -> Kept {
        for timed in self.order.finish() {
            self.kept.apply(timed);
        }
        self.kept
    }
}

impl Kept {
    fn apply(&mut self, timed: Timed) {
        let Event::Sample(sample) = timed.event else { return self.processes.apply(timed.event) };
        if !self.processes.knows(sample.pid) {
            self.look_up(sample.pid);
        }
        self.aggregator.add(&sample, &self.processes);
    }

    /// Asks /proc about a process that nobody told of: it ran before the start and was not looked up.
    fn look_up(&mut self, pid: Pid) {
        if let Some(scanned) = (pid.0 != 0).then(|| scan_process(pid)).flatten() {
            self.processes.learn(&scanned);
        }
    }
}

/// Executables to hold open: half of the descriptors that we may have once
/// [`super::raise_open_files`] has asked for all of them.
fn open_files_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    (limit.maximum.unwrap_or(u64::MAX) / 2).min(1 << 16) as usize
}
