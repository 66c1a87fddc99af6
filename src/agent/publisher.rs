//! Stations 5 and 6 of the agent: closed windows get their names and are given to be delivered, one after the other.
//!
//! It has a thread of its own: names may take seconds and a disk may be slow, and neither may keep the sampling waiting. One
//! window waits at most; while one does, the next is not cut and goes on being filled, up to its bound of memory.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use profile::labels::NODE;
use profile::pprof::{SampleGrouping, to_message};
use profile::{Labels, MergedSeries, Profile};
use symbolizer::Limit;
use upload::Batch;
use upload::delivery::Delivery;

use super::debug_files::DebugFiles;
use super::status::{DEAD, DEFECT, Fate, Status};
use crate::budget::Verdict;
use crate::kernel::trim_heap;
use crate::labels;
use crate::session::ClosedWindow;
use crate::symbolization::{self, SymbolizerMemory, WindowSymbolizer};

/// How often it is looked for whether the thread has ended.
const TURN: Duration = Duration::from_millis(5);

/// A window to be published.
pub(super) struct Job {
    /// The number of its session: in another one, ids stand for other executables.
    pub session: u64,
    pub closed: ClosedWindow,
    /// What the budget says of it.
    pub verdict: Verdict,
    /// How it was sampled, in words.
    pub pace: String,
    /// Series that it may have.
    pub series_max: usize,
    /// Labels that all series have.
    pub labels: Arc<Labels>,
    /// How long its names may take.
    pub naming: Duration,
    /// Ends that before.
    pub hurry: Arc<AtomicBool>,
}

/// The thread that publishes windows.
pub(super) struct Publisher {
    jobs: SyncSender<Job>,
    /// A window waits.
    is_waiting: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Publisher {
    /// Starts it. `program`: everytick itself, which is also the worker that finds names.
    pub fn spawn(
        program: &str,
        names: SymbolizerMemory,
        delivery: Arc<Delivery>,
        files: Arc<DebugFiles>,
        status: Arc<Status>,
    ) -> io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel(1);
        let program = program.to_owned();
        let is_waiting = Arc::new(AtomicBool::new(false));
        let waits = Arc::clone(&is_waiting);
        let publish = move || {
            let _told = Told(Arc::clone(&status));
            work(
                &queue,
                &waits,
                || WindowSymbolizer::new(&program, names),
                &delivery,
                &files,
                &status,
            );
        };
        let thread = thread::Builder::new().name("publisher".into()).spawn(publish)?;
        Ok(Self { jobs, is_waiting, thread })
    }

    /// Whether a window waits already.
    pub fn is_busy(&self) -> bool {
        self.is_waiting.load(Ordering::Acquire)
    }

    /// Takes a window, and waits for room if one waits already; says no if it has died.
    pub fn give(&self, job: Job) -> bool {
        self.is_waiting.store(true, Ordering::Release);
        let is_given = self.jobs.send(job).is_ok();
        if !is_given {
            self.is_waiting.store(false, Ordering::Release);
        }
        is_given
    }

    /// Takes the last window and waits until every one is published; says whether all were in time.
    pub fn finish(self, last: Option<Job>, until: Instant) -> bool {
        let wait = |is_over: &dyn Fn() -> bool| {
            while !is_over() && Instant::now() < until {
                thread::sleep(TURN);
            }
            is_over()
        };
        let has_room = wait(&|| !self.is_busy());
        let is_given = last.is_none_or(|job| has_room && self.give(job));
        drop(self.jobs);
        wait(&|| self.thread.is_finished()) && is_given
    }
}

/// Tells the status when the thread ends, whatever for.
struct Told(Arc<Status>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.publisher_ended();
    }
}

fn work(
    queue: &Receiver<Job>,
    is_waiting: &AtomicBool,
    new_symbolizer: impl Fn() -> WindowSymbolizer,
    delivery: &Delivery,
    files: &DebugFiles,
    status: &Status,
) {
    let (mut symbolizer, mut session) = (new_symbolizer(), 0);
    for job in queue {
        is_waiting.store(false, Ordering::Release);
        if std::mem::replace(&mut session, job.session) != job.session {
            symbolizer = new_symbolizer();
        }
        let end = job.closed.period.start_unix_ns + job.closed.period.duration_ns;
        files.learn(&job.closed.executables);
        let done = catch_unwind(AssertUnwindSafe(|| publish(job, &mut symbolizer, delivery)));
        let (fate, published) = done.unwrap_or_else(|_| {
            tracing::error!("a window made the publisher panic; please report this with its log");
            symbolizer = new_symbolizer();
            (Fate::Lost(DEAD), Published::default())
        });
        status.published(fate, published, end, symbolizer.usage());
        trim_heap();
    }
}

/// What the names of a window came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Published {
    /// Distinct frames with names.
    pub named: u64,
    /// Distinct frames without.
    pub unnamed: u64,
    /// Series of the batch.
    pub series: u64,
    /// Those that were merged.
    pub merged: MergedSeries,
}

fn publish(job: Job, symbolizer: &mut WindowSymbolizer, delivery: &Delivery) -> (Fate, Published) {
    let Job { closed, verdict, pace, series_max, labels, naming, hurry, .. } = job;
    let ClosedWindow { window, ledger, period, executables, .. } = closed;
    if let Err(defect) = ledger.check() {
        tracing::error!("{defect}; please report this");
        return (Fate::Lost(DEFECT), Published::default());
    }
    symbolizer.bound(Limit { until: Instant::now() + naming, hurry });
    let (mut profile, _) =
        symbolization::symbolize(&window, ledger, period, &executables, symbolizer);
    drop((window, executables));
    if profile.samples.is_empty() {
        return (Fate::Empty, Published::default());
    }
    labels::complete(&mut profile, &labels);
    let merged = profile.bound_series(series_max, &labels);
    profile.comments =
        symbolization::comments(&profile, labels.get(NODE).unwrap_or_default(), &pace);
    profile.comments.push(format!("budget: {verdict}"));
    let published = count(&profile, merged);
    let batch = Batch { profile: to_message(&profile, SampleGrouping::BySeries) };
    drop(profile);
    match delivery.accept(&batch) {
        Ok(()) => (Fate::Accepted, published),
        Err(_) => (Fate::Refused, published),
    }
}

fn count(profile: &Profile, merged: MergedSeries) -> Published {
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
