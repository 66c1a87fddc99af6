//! The agent's own figures: updated with each window, read by health and metrics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::workers::Usage;
use profile::Cpu;
use upload::delivery::Delivery;

use super::AgentConfig;
use super::budget::WindowUsage;
use super::tick_watch::TickWatch;
use super::window::{ProfileStats, PublishResult};
use crate::budget::{BudgetLimits, BudgetRate, CpuByCause, Lowered, ResidentMemory};
use crate::debuginfod::Downloads;
use crate::events::unix_ns;
use crate::host::Limitation;
use crate::log;
use crate::metrics::server::{Handler, HttpCounters};
use crate::metrics::{self, HealthState, LossReason, ProcessUsage, SeriesLimit, Snapshot, frames};
use crate::session::ClosedWindow;

/// The agent's own figures.
pub(super) struct AgentStatus {
    figures: Mutex<Figures>,
    delivery: Arc<Delivery>,
    /// Debug info from servers.
    downloads: Option<Arc<Downloads>>,
    http: Arc<HttpCounters>,
}

/// Figures that events update. All others are read when a snapshot is taken.
struct Figures {
    snapshot: Snapshot,
    started: Instant,
    sampling_started: Option<Instant>,
    window_closed: Option<Instant>,
    ticks: TickWatch,
    is_publisher_alive: bool,
}

impl AgentStatus {
    pub fn new(
        delivery: Arc<Delivery>,
        downloads: Option<Arc<Downloads>>,
        config: &AgentConfig,
    ) -> Self {
        let mut snapshot = Snapshot { started_unix_ns: unix_ns(), ..Snapshot::default() };
        snapshot.reloads.read_unix_ns = snapshot.started_unix_ns;
        let figures = Figures {
            snapshot,
            started: Instant::now(),
            sampling_started: None,
            window_closed: None,
            ticks: TickWatch::default(),
            is_publisher_alive: true,
        };
        let figures = Mutex::new(figures);
        let this = Self { figures, delivery, downloads, http: Arc::default() };
        this.configuration_changed(config.limits, config.window);
        this
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a session has started at this rate.
    pub fn sampling_started(&self, rate: BudgetRate) {
        let mut figures = self.figures();
        figures.sampling_started = Some(Instant::now());
        let budget = &mut figures.snapshot.budget;
        (budget.frequency, budget.full_frequency) = (rate.frequency, rate.full_frequency);
    }

    /// Records the CPU time by cause since the start, the rate in force, and what lowered it.
    pub fn budget_assessed(&self, cpu: CpuByCause, in_force: BudgetRate, lowered: Option<Lowered>) {
        let state = &mut self.figures().snapshot.budget;
        (state.frequency, state.full_frequency) = (in_force.frequency, in_force.full_frequency);
        (state.lowered, state.cpu) = (lowered, cpu);
    }

    /// Records the ticks of each CPU so far, indexed by CPU number.
    pub fn ticked(&self, online: &[Cpu], ticks: &[u64]) {
        self.figures().ticks.update(online, ticks, Instant::now());
    }

    /// Adds a closed window and its overhead.
    pub fn window_closed(&self, closed: &ClosedWindow, usage: &WindowUsage) {
        let mut figures = self.figures();
        figures.window_closed = Some(Instant::now());
        let snapshot = &mut figures.snapshot;
        snapshot.totals.add(&closed.ledger, frames(&closed.window));
        snapshot.windows.closed += 1;
        snapshot.windows.last_unix_ns = closed.period.start_unix_ns + closed.period.duration_ns;
        snapshot.session = closed.counts;
        set_usage(&mut snapshot.own.file_helper, closed.counts.file_helper);
        let budget = &mut snapshot.budget;
        (budget.cpu_percent, budget.memory) = (usage.cpu_percent(), usage.memory);
    }

    /// Adds what became of a window. `symbolizer`: its usage so far.
    pub fn window_published(
        &self,
        result: PublishResult,
        stats: ProfileStats,
        end_unix_ns: u64,
        symbolizer: Usage,
    ) {
        let mut figures = self.figures();
        let snapshot = &mut figures.snapshot;
        match result {
            PublishResult::Accepted => {
                snapshot.windows.accepted += 1;
                snapshot.windows.accepted_unix_ns = end_unix_ns;
            }
            PublishResult::Empty => snapshot.windows.empty += 1,
            PublishResult::Refused => {} // delivery counts it, with its reason
            PublishResult::Lost(reason) => lose(snapshot, reason, 1),
        }
        set_usage(&mut snapshot.own.symbolizer, symbolizer);
        snapshot.symbols.add(&stats.names);
        let series = &mut snapshot.series;
        (series.last, series.of_hour) = (stats.series, stats.series_of_hour);
        series.add_merged(SeriesLimit::Window, stats.merged_in_window);
        series.add_merged(SeriesLimit::Hour, stats.merged_in_hour);
    }

    /// Counts a closed window that the dead publisher thread could not take.
    pub fn window_not_published(&self) {
        lose(&mut self.figures().snapshot, LossReason::PublisherDied, 1);
    }

    /// Counts a window that ended without the sampler's counters.
    pub fn window_not_closed(&self) {
        let snapshot = &mut self.figures().snapshot;
        snapshot.windows.closed += 1;
        lose(snapshot, LossReason::CountersUnreadable, 1);
    }

    /// Counts all windows that are still to be published as lost.
    pub fn pending_windows_lost(&self) {
        let refused = self.delivery.counts().refused.total();
        let snapshot = &mut self.figures().snapshot;
        let windows = &snapshot.windows;
        let lost = windows.lost.values().sum::<u64>();
        let ended = windows.accepted + windows.empty + lost + refused;
        let pending = windows.closed.saturating_sub(ended);
        lose(snapshot, LossReason::NotPublishedInTime, pending);
    }

    /// Records that the publisher thread has ended.
    pub fn publisher_ended(&self) {
        self.figures().is_publisher_alive = false;
    }

    /// Records an attempt to read the configuration again.
    pub fn reloaded(&self, is_applied: bool) {
        let reloads = &mut self.figures().snapshot.reloads;
        if is_applied {
            reloads.applied += 1;
            reloads.read_unix_ns = unix_ns();
        } else {
            reloads.rejected += 1;
        }
        reloads.has_failed = !is_applied;
    }

    /// Records the limits and the window length of the configuration in force.
    pub fn configuration_changed(&self, limits: BudgetLimits, window: Duration) {
        let snapshot = &mut self.figures().snapshot;
        snapshot.health.window = window;
        snapshot.budget.cpu_percent_max = limits.cpu_percent;
        snapshot.budget.memory_max = limits.memory;
    }

    /// Records what the host lacks.
    pub fn host_checked(&self, limitations: &[Limitation]) {
        let reasons = limitations.iter().map(|limitation| limitation.reason);
        self.figures().snapshot.host_limitations = reasons.collect();
    }

    /// Records that the agent is stopping.
    pub fn stopping(&self) {
        self.figures().snapshot.health.is_stopping = true;
    }

    /// Returns the numbers of windows closed, accepted and lost so far.
    pub fn windows(&self) -> (u64, u64, u64) {
        let windows = &self.figures().snapshot.windows;
        let lost: u64 = windows.lost.values().sum();
        (windows.closed, windows.accepted, lost + self.delivery.counts().refused.total())
    }

    /// Returns the facts of health and readiness as of now. Waits for nothing but the figures.
    fn health(&self) -> HealthState {
        let figures = self.figures();
        let mut health = figures.snapshot.health.clone();
        health.since_start = figures.started.elapsed();
        health.since_sampling = figures.sampling_started.map(|at| at.elapsed());
        health.since_window = figures.window_closed.map(|at| at.elapsed());
        health.longest_without_tick = figures.ticks.longest(Instant::now());
        health.has_sinks = true; // a status exists only once the sinks are started
        health.has_accepted = figures.snapshot.windows.accepted > 0;
        if !figures.is_publisher_alive && !health.is_stopping {
            health.dead_threads.push("publisher");
        }
        health
    }

    /// Returns all figures as of now.
    fn snapshot(&self) -> Snapshot {
        let health = self.health();
        let mut snapshot = Snapshot { health, ..self.figures().snapshot.clone() };
        let resident = ResidentMemory::measure();
        let own = &mut snapshot.own;
        set_usage(&mut own.agent, Usage::own());
        own.agent.resident = resident.agent;
        own.symbolizer.resident = resident.of_workers("symbolizer-worker");
        own.file_helper.resident =
            resident.of_workers("file-helper") + resident.of_workers("deriver");
        snapshot.delivery = self.delivery.counts();
        let downloads = self.downloads.as_ref().map(|downloads| downloads.counts());
        snapshot.downloads = downloads.unwrap_or_default();
        snapshot.http = self.http.counts();
        snapshot.log = log::counts();
        snapshot
    }

    /// Returns where the HTTP server counts requests.
    pub fn http_counters(&self) -> Arc<HttpCounters> {
        Arc::clone(&self.http)
    }
}

fn set_usage(process: &mut ProcessUsage, usage: Usage) {
    process.cpu = usage.cpu;
    process.peak = usage.peak_rss_kib << 10;
}

fn lose(snapshot: &mut Snapshot, reason: LossReason, windows: u64) {
    *snapshot.windows.lost.entry(reason.text()).or_default() += windows;
}

/// Returns the handler of HTTP requests for health and metrics.
pub(super) fn http_handler(status: &Arc<AgentStatus>) -> Arc<Handler> {
    let status = Arc::clone(status);
    Arc::new(move |path: &str| metrics::page(path, || status.snapshot(), || status.health()))
}
