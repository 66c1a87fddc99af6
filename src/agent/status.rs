//! What the agent knows about itself, for those who ask: filled window by window, read by pages.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use symbolizer::Usage;
use upload::delivery::Delivery;

use super::publisher::Published;
use crate::budget::{Limits, Step, Verdict, resident};
use crate::metrics::server::{Handler, Page};
use crate::metrics::{self, Budget, Names, Part, Snapshot, frames};
use crate::session::{ClosedWindow, unix_ns};

/// What became of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is in the spool.
    Accepted,
    /// It has no sample.
    Empty,
    /// The spool did not take it.
    Refused,
    /// It was lost before, for this reason.
    Lost(&'static str),
}

/// Reasons for which windows are lost before delivery sees them.
pub(super) const DEAD: &str = "publisher died";
const LATE: &str = "not named before the end";
const UNCUT: &str = "counters could not be read";
pub(super) const DEFECT: &str = "ledger does not close";

/// The agent's own figures.
pub(super) struct Status {
    kept: Mutex<Kept>,
    delivery: Arc<Delivery>,
}

/// What is kept between windows; everything else is asked when somebody asks.
struct Kept {
    snapshot: Snapshot,
    started: Instant,
    sampling: Option<Instant>,
    window: Option<Instant>,
    is_publisher_alive: bool,
}

impl Status {
    pub fn new(delivery: Arc<Delivery>, limits: Limits, period: Duration) -> Self {
        let mut snapshot = Snapshot { started_unix_ns: unix_ns(), ..Snapshot::default() };
        snapshot.reloads.read_unix_ns = snapshot.started_unix_ns;
        snapshot.windows.lost.extend([(DEAD, 0), (DEFECT, 0), (LATE, 0), (UNCUT, 0)]);
        let (started, sampling, window) = (Instant::now(), None, None);
        let kept = Kept { snapshot, started, sampling, window, is_publisher_alive: true };
        let this = Self { kept: Mutex::new(kept), delivery };
        this.changed(limits, period);
        this
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns that sampling has begun, at this step.
    pub fn started(&self, step: Step) {
        let mut kept = self.kept();
        kept.sampling = Some(Instant::now());
        kept.snapshot.starts += 1;
        set_step(&mut kept.snapshot.budget, step);
    }

    /// Learns of a closed window, what it took, and the step of the next.
    pub fn closed(&self, closed: &ClosedWindow, verdict: &Verdict, next: Step) {
        let mut kept = self.kept();
        kept.window = Some(Instant::now());
        let snapshot = &mut kept.snapshot;
        snapshot.totals.add(&closed.ledger, frames(&closed.window));
        snapshot.windows.closed += 1;
        snapshot.windows.last_unix_ns = closed.period.start_unix_ns + closed.period.duration_ns;
        snapshot.session = closed.counts;
        snapshot.own.file_helper.cpu = closed.counts.file_helper.cpu;
        let budget = &mut snapshot.budget;
        (budget.cpu_percent, budget.memory) = (verdict.cpu_percent, verdict.memory);
        set_step(budget, next);
    }

    /// Learns what became of a window, and what its names came to.
    pub fn published(&self, fate: Fate, published: Published, end_unix_ns: u64, names: Usage) {
        let mut kept = self.kept();
        let snapshot = &mut kept.snapshot;
        match fate {
            Fate::Accepted => {
                snapshot.windows.accepted += 1;
                snapshot.windows.accepted_unix_ns = end_unix_ns;
            }
            Fate::Empty => snapshot.windows.empty += 1,
            Fate::Refused => {} // delivery counts it, with its reason
            Fate::Lost(reason) => *snapshot.windows.lost.entry(reason).or_default() += 1,
        }
        snapshot.own.symbolizer.cpu = names.cpu;
        let Names { named, unnamed } = &mut snapshot.names;
        (*named, *unnamed) = (*named + published.named, *unnamed + published.unnamed);
        snapshot.series.last = published.series;
        snapshot.series.merged += published.merged.series;
        snapshot.series.merged_samples += published.merged.samples;
    }

    /// Learns that a window found no publisher.
    pub fn lost_dead(&self) {
        *self.kept().snapshot.windows.lost.entry(DEAD).or_default() += 1;
    }

    /// Learns that a window ended without what the sampler knows of it.
    pub fn lost_uncut(&self) {
        let windows = &mut self.kept().snapshot.windows;
        windows.closed += 1;
        *windows.lost.entry(UNCUT).or_default() += 1;
    }

    /// Learns that what is on its way to be published never will be.
    pub fn lost_late(&self) {
        let refused = self.delivery.counts().refused.total();
        let windows = &mut self.kept().snapshot.windows;
        let ended = windows.accepted + windows.empty + windows.lost.values().sum::<u64>() + refused;
        *windows.lost.entry(LATE).or_default() += windows.closed.saturating_sub(ended);
    }

    /// Learns that the publisher has ended.
    pub fn publisher_ended(&self) {
        self.kept().is_publisher_alive = false;
    }

    /// Learns of an attempt to read the configuration again.
    pub fn reloaded(&self, is_done: bool) {
        let reloads = &mut self.kept().snapshot.reloads;
        match is_done {
            true => (reloads.done, reloads.read_unix_ns) = (reloads.done + 1, unix_ns()),
            false => reloads.failed += 1,
        }
        reloads.is_stale = !is_done;
    }

    /// Learns of other limits and another length of windows.
    pub fn changed(&self, limits: Limits, period: Duration) {
        let snapshot = &mut self.kept().snapshot;
        snapshot.state.period = period;
        (snapshot.budget.cpu_percent_max, snapshot.budget.memory_max) =
            (limits.cpu_percent, limits.memory);
    }

    /// Learns that the agent stops.
    pub fn stopping(&self) {
        self.kept().snapshot.state.is_stopping = true;
    }

    /// Windows that were closed, accepted and lost, so far.
    pub fn windows(&self) -> (u64, u64, u64) {
        let windows = &self.kept().snapshot.windows;
        let lost: u64 = windows.lost.values().sum();
        (windows.closed, windows.accepted, lost + self.delivery.counts().refused.total())
    }

    /// Everything as of now.
    fn snapshot(&self) -> Snapshot {
        let kept = self.kept();
        let mut snapshot = kept.snapshot.clone();
        let state = &mut snapshot.state;
        state.since_start = kept.started.elapsed();
        state.since_sampling = kept.sampling.map(|at| at.elapsed());
        state.since_window = kept.window.map(|at| at.elapsed());
        state.has_sinks = true; // there is no status before they are started
        state.has_accepted = snapshot.windows.accepted > 0;
        if !kept.is_publisher_alive && !state.is_stopping {
            state.dead.push("publisher");
        }
        drop(kept);
        let resident = resident();
        let own = &mut snapshot.own;
        own.agent = Part { cpu: Usage::own().cpu, resident: resident.own };
        own.symbolizer.resident = resident.of("symbolizer-worker");
        own.file_helper.resident = resident.of("file-helper");
        snapshot.delivery = self.delivery.counts();
        snapshot
    }
}

fn set_step(budget: &mut Budget, step: Step) {
    (budget.step, budget.frequency, budget.user_frames) =
        (step.number, step.frequency, step.user_frames);
}

/// Answers those who ask over HTTP.
pub(super) fn answer(status: &Arc<Status>) -> Arc<Handler> {
    let status = Arc::clone(status);
    Arc::new(move |path: &str| -> Option<Page> { metrics::page(path, || status.snapshot()) })
}
