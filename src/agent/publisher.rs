//! The publisher thread: symbolizes closed windows and hands them to delivery, one at a time.
//!
//! Symbolization may take seconds and a disk may be slow; neither may stall sampling. At most one
//! window waits. While one does, the current window is not closed and keeps filling, up to its
//! memory bound.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use profile::labels::NODE;
use profile::pprof::{SampleGrouping, to_message};
use profile::{BootTime, CaptureContext, MergedSeries, Origin};
use upload::Batch;
use upload::clock::{Clock, SystemClock};
use upload::delivery::Delivery;

use super::debug_files::DebugFiles;
use super::status::AgentStatus;
use super::window::{PendingWindow, ProfileStats, PublishResult};
use crate::debuginfod::Downloads;
use crate::kernel::trim_heap;
use crate::labels::{self, SeriesLimiter};
use crate::metrics::LossReason;
use crate::session::ClosedWindow;
use crate::symbolization::{self, SymbolizeMode, SymbolizerLimits, TimeLimit, WindowSymbolizer};
use crate::workers::Usage;

/// How often [`Publisher::finish`] checks whether the thread has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Handle of the publisher thread.
pub(super) struct Publisher {
    queue: SyncSender<PendingWindow>,
    /// A window is in the queue.
    is_full: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Publisher {
    /// Starts the thread. `program`: path of this program, which is also the symbolizer worker.
    pub fn spawn(
        program: &str,
        limits: SymbolizerLimits,
        mode: SymbolizeMode,
        downloads: Option<Arc<Downloads>>,
        delivery: Arc<Delivery>,
        debug_files: Arc<DebugFiles>,
        status: Arc<AgentStatus>,
    ) -> io::Result<Self> {
        let (queue, windows) = mpsc::sync_channel(1);
        let program = program.to_owned();
        let is_full = Arc::new(AtomicBool::new(false));
        let state = PublisherThread {
            windows,
            is_full: Arc::clone(&is_full),
            new_symbolizer: Box::new(move || {
                WindowSymbolizer::with_limits(&program, limits)
                    .with_mode(mode)
                    .with_downloads(downloads.clone())
            }),
            delivery,
            debug_files,
            status,
            boot_id: SystemClock::new().boot_time().boot_id,
        };
        let thread = thread::Builder::new().name("publisher".into()).spawn(|| state.run())?;
        Ok(Self { queue, is_full, thread })
    }

    /// Returns whether a window waits already.
    pub fn is_busy(&self) -> bool {
        self.is_full.load(Ordering::Acquire)
    }

    /// Queues a window, and blocks while another one waits. Returns false if the thread has died.
    pub fn publish(&self, window: PendingWindow) -> bool {
        self.is_full.store(true, Ordering::Release);
        let is_queued = self.queue.send(window).is_ok();
        if !is_queued {
            self.is_full.store(false, Ordering::Release);
        }
        is_queued
    }

    /// Queues the last window and waits until all are published. Returns whether that was done by
    /// `deadline`.
    pub fn finish(self, last: Option<PendingWindow>, deadline: Instant) -> bool {
        let wait_for = |condition: &dyn Fn() -> bool| {
            while !condition() && Instant::now() < deadline {
                thread::sleep(POLL_INTERVAL);
            }
            condition()
        };
        let has_space = wait_for(&|| !self.is_busy());
        let is_queued = last.is_none_or(|window| has_space && self.publish(window));
        drop(self.queue);
        wait_for(&|| self.thread.is_finished()) && is_queued
    }
}

/// The state of the publisher thread.
struct PublisherThread {
    windows: Receiver<PendingWindow>,
    is_full: Arc<AtomicBool>,
    new_symbolizer: Box<dyn Fn() -> WindowSymbolizer + Send>,
    delivery: Arc<Delivery>,
    debug_files: Arc<DebugFiles>,
    status: Arc<AgentStatus>,
    /// The boot in which the agent runs.
    boot_id: u128,
}

/// Reports the end of the thread, whatever its cause.
impl Drop for PublisherThread {
    fn drop(&mut self) {
        self.status.publisher_ended();
    }
}

impl PublisherThread {
    fn run(self) {
        let (mut symbolizer, mut past) = ((self.new_symbolizer)(), Usage::default());
        let mut series = SeriesLimiter::new(0);
        for window in &self.windows {
            self.is_full.store(false, Ordering::Release);
            let end = window.closed.period.start_unix_ns + window.closed.period.duration_ns;
            self.debug_files.replace(&window.closed.executables);
            let publish =
                || publish(window, &mut symbolizer, &mut series, &self.delivery, self.boot_id);
            let (result, stats) = catch_unwind(AssertUnwindSafe(publish)).unwrap_or_else(|_| {
                tracing::error!("publisher panicked on a window; please report this with the log");
                past = past.and(symbolizer.usage());
                symbolizer = (self.new_symbolizer)();
                (PublishResult::Lost(LossReason::PublisherDied), ProfileStats::default())
            });
            let usage = past.and(symbolizer.usage());
            self.status.window_published(result, stats, end, usage);
            trim_heap();
        }
    }
}

fn publish(
    window: PendingWindow,
    symbolizer: &mut WindowSymbolizer,
    series: &mut SeriesLimiter,
    delivery: &Delivery,
    boot_id: u128,
) -> (PublishResult, ProfileStats) {
    let PendingWindow { closed, budget, frequency, series_max, labels, .. } = window;
    let ClosedWindow { window: stacks, ledger, period, executables, .. } = closed;
    if let Err(defect) = ledger.check() {
        tracing::error!("{defect}; please report this");
        return (PublishResult::Lost(LossReason::LedgerDoesNotClose), ProfileStats::default());
    }
    let limit = TimeLimit::within(window.symbolization_max, window.stop_symbolizing);
    symbolizer.set_limit(limit);
    symbolizer.set_cpu_rate(window.names_cpu_rate);
    let (mut profile, names) =
        symbolization::symbolize(&stacks, ledger, period, &executables, symbolizer);
    drop((stacks, executables));
    if profile.samples.is_empty() {
        return (PublishResult::Empty, ProfileStats::default());
    }
    labels::complete(&mut profile, &labels);
    let merged_in_hour = series.limit(&mut profile, series_max, Instant::now());
    let merged_in_window = profile.bound_series(series_max, &labels);
    if merged_in_hour.series > 0 {
        let MergedSeries { series, samples } = merged_in_hour;
        tracing::warn!(
            series,
            samples,
            "merged new names in their cgroup: it has too many series within an hour"
        );
    }
    let host = labels.get(NODE).unwrap_or_default();
    let scope = CaptureContext::WHOLE_MACHINE;
    let context = symbolization::capture_context(&profile, host, frequency, false, scope);
    profile.comments = symbolization::comments(&profile, &context);
    let start = BootTime { boot_id, ns: period.start_since_boot_ns };
    let origin = Origin { start, instance: delivery.instance(), host: host.to_owned() };
    profile.comments.push(origin.to_string());
    profile.comments.extend(budget);
    profile.comments.extend(names.counts.comment());
    let stats = ProfileStats {
        series_of_hour: series.series(),
        merged_in_window,
        merged_in_hour,
        ..ProfileStats::of(&profile, names.counts)
    };
    let batch = Batch { profile: to_message(&profile, SampleGrouping::BySeries) };
    drop(profile);
    match delivery.accept(&batch) {
        Ok(()) => (PublishResult::Accepted, stats),
        Err(_) => (PublishResult::Refused, stats),
    }
}
