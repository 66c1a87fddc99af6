//! Stations 5 and 6 of the agent: closed windows get their names and are given to be delivered, one after the other.
//!
//! It has a thread of its own: names may take seconds and a disk may be slow, and neither may keep the next window from
//! being cut. Windows wait in a queue of one; what does not fit is lost, and counted.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use profile::pprof::{Detail, to_message};
use profile::{Labels, Merged, Profile};
use upload::Parcel;
use upload::delivery::Delivery;

use super::status::{DEFECT, Fate, Status};
use crate::budget::Verdict;
use crate::labels;
use crate::naming::{self, NameLimits, Namer};
use crate::session::ClosedWindow;

/// A window to be published.
pub(super) struct Job {
    pub closed: ClosedWindow,
    /// What the budget says of it.
    pub verdict: Verdict,
    /// How it was sampled, in words.
    pub pace: String,
    /// Series that it may have.
    pub series_max: usize,
    /// Labels that all series have.
    pub labels: Arc<Labels>,
}

/// The thread that publishes windows.
pub(super) struct Publisher {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
}

impl Publisher {
    /// Starts it. `program`: everytick itself, which is also the worker that finds names.
    pub fn spawn(
        program: &str,
        names: NameLimits,
        delivery: Arc<Delivery>,
        status: Arc<Status>,
    ) -> io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel(1);
        let namer = Namer::new(program, names);
        let publish = move || {
            let _told = Told(Arc::clone(&status));
            work(&queue, namer, &delivery, &status);
        };
        let thread = thread::Builder::new().name("publisher".into()).spawn(publish)?;
        Ok(Self { jobs, thread })
    }

    /// Takes a window; says no when one is waiting already.
    pub fn give(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }

    /// Waits until every window is published.
    pub fn finish(self) {
        drop(self.jobs);
        let _ = self.thread.join(); // the status knows
    }
}

/// Tells the status when the thread ends, whatever for.
struct Told(Arc<Status>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.publisher_ended();
    }
}

fn work(queue: &Receiver<Job>, mut namer: Namer, delivery: &Delivery, status: &Status) {
    for job in queue {
        let end = job.closed.period.start_unix_ns + job.closed.period.duration_ns;
        let (fate, published) = publish(job, &mut namer, delivery);
        status.published(fate, published, end, namer.usage());
    }
}

/// What the names of a window came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Published {
    /// Distinct frames with names.
    pub named: u64,
    /// Distinct frames without.
    pub unnamed: u64,
    /// Series of the parcel.
    pub series: u64,
    /// Those that were merged.
    pub merged: Merged,
}

fn publish(job: Job, namer: &mut Namer, delivery: &Delivery) -> (Fate, Published) {
    let Job { closed, verdict, pace, series_max, labels } = job;
    let ClosedWindow { window, ledger, period, executables, .. } = closed;
    if let Err(defect) = ledger.check() {
        tracing::error!("{defect}; please report this");
        return (Fate::Lost(DEFECT), Published::default());
    }
    let (mut profile, _) = naming::name(&window, ledger, period, &executables, namer);
    drop((window, executables));
    if profile.samples.is_empty() {
        return (Fate::Empty, Published::default());
    }
    labels::complete(&mut profile, &labels);
    let merged = profile.bound_series(series_max, &labels);
    profile.comments = naming::comments(&profile, &pace);
    profile.comments.push(format!("budget: {verdict}"));
    let published = count(&profile, merged);
    let parcel = Parcel { profile: to_message(&profile, Detail::Series) };
    drop(profile);
    match delivery.accept(&parcel) {
        Ok(()) => (Fate::Accepted, published),
        Err(_) => (Fate::Refused, published),
    }
}

fn count(profile: &Profile, merged: Merged) -> Published {
    let named = profile.frames.iter().filter(|frame| !frame.lines.is_empty()).count() as u64;
    let mut series: Vec<_> = profile.tasks.iter().map(|task| &task.labels).collect();
    series.sort();
    series.dedup();
    Published {
        named,
        unnamed: profile.frames.len() as u64 - named,
        series: series.len() as u64,
        merged,
    }
}
