//! Everything that metrics report, as of one moment. `table.rs` says what each value means.

use std::collections::BTreeMap;
use std::time::Duration;

use profile::MergedSeries;
use upload::delivery;

use super::health::HealthState;
use super::server::HttpCounts;
use super::totals::LedgerTotals;
use crate::budget::{CpuByCause, Lowered};
use crate::debuginfod::DownloadCounts;
use crate::host::LimitationReason;
use crate::log::LogCounts;
use crate::session::SessionCounts;
use crate::symbolization::NameCounts;

/// The agent as of one moment. Counts are since its start unless noted otherwise.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Start of the agent, nanoseconds since 1970.
    pub started_unix_ns: u64,
    /// The facts behind health and readiness.
    pub health: HealthState,
    /// Capture ledgers of all windows.
    pub totals: LedgerTotals,
    /// The session: processes, tables, the sampler's own time.
    pub session: SessionCounts,
    /// Frames with and without a symbol.
    pub symbols: NameCounts,
    /// Lookups of debug info at servers.
    pub downloads: DownloadCounts,
    /// Windows.
    pub windows: WindowCounts,
    /// Series.
    pub series: SeriesCounts,
    /// Batches, sinks and the spool.
    pub delivery: delivery::Counts,
    /// The agent's own usage.
    pub own: OwnUsage,
    /// The overhead budget, and the rate in force.
    pub budget: BudgetState,
    /// Configuration reloads.
    pub reloads: ReloadCounts,
    /// Requests to the HTTP port.
    pub http: HttpCounts,
    /// Lines of the log.
    pub log: LogCounts,
    /// What the host lacked at the start.
    pub host_limitations: Vec<LimitationReason>,
}

/// Windows by outcome: `closed = accepted + empty + lost + refused by delivery + in progress`.
#[derive(Clone, Debug, Default)]
pub struct WindowCounts {
    /// Closed windows.
    pub closed: u64,
    /// Windows that the spool accepted.
    pub accepted: u64,
    /// Windows without samples, which produce no batch.
    pub empty: u64,
    /// Windows lost before delivery saw them, by the text of their [`LossReason`].
    pub lost: BTreeMap<&'static str, u64>,
    /// End of the last closed window, nanoseconds since 1970; 0 before the first one.
    pub last_unix_ns: u64,
    /// End of the last accepted window, nanoseconds since 1970; 0 before the first one.
    pub accepted_unix_ns: u64,
}

/// Why a window was lost before delivery saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// The publisher thread panicked on it, or has ended.
    PublisherDied,
    /// Its capture ledger does not add up, which is a defect of ours.
    LedgerDoesNotClose,
    /// The agent stopped before it was symbolized and written.
    NotPublishedInTime,
    /// The sampler's counters at its end could not be read.
    CountersUnreadable,
}

impl LossReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [
        Self::PublisherDied,
        Self::LedgerDoesNotClose,
        Self::NotPublishedInTime,
        Self::CountersUnreadable,
    ];

    /// Returns the value of the label `reason` of `everytick_windows_lost_total`.
    pub fn text(self) -> &'static str {
        match self {
            Self::PublisherDied => "publisher died",
            Self::LedgerDoesNotClose => "ledger does not close",
            Self::NotPublishedInTime => "not published in time",
            Self::CountersUnreadable => "counters unreadable",
        }
    }
}

/// Series of windows.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeriesCounts {
    /// Series of the last window.
    pub last: u64,
    /// Distinct series of the last hour, with those that others were merged into.
    pub of_hour: u64,
    /// Series that were merged because there were too many, indexed by [`SeriesLimit`].
    pub merged: [u64; SeriesLimit::ALL.len()],
    /// Samples of the merged series.
    pub merged_samples: [u64; SeriesLimit::ALL.len()],
}

impl SeriesCounts {
    /// Adds series that were merged beyond a limit.
    pub fn add_merged(&mut self, limit: SeriesLimit, merged: MergedSeries) {
        self.merged[limit as usize] += merged.series;
        self.merged_samples[limit as usize] += merged.samples;
    }
}

/// A limit beyond which series are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesLimit {
    /// Of the series of one window.
    Window,
    /// Of the distinct series within an hour.
    Hour,
}

impl SeriesLimit {
    /// All limits.
    pub const ALL: [Self; 2] = [Self::Window, Self::Hour];

    /// Returns the value of the label `limit` of `everytick_series_merged_total`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Hour => "hour",
        }
    }
}

/// Usage of the agent's processes. The usage of BPF is in [`Snapshot::session`].
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnUsage {
    /// This process.
    pub agent: ProcessUsage,
    /// The symbolizer workers.
    pub symbolizer: ProcessUsage,
    /// The file helpers.
    pub file_helper: ProcessUsage,
}

/// CPU time and memory of a process, or of several of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessUsage {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
    /// The most that one of these processes had, in bytes.
    pub peak: u64,
}

/// The overhead budget, and the rate in force.
#[derive(Clone, Copy, Debug, Default)]
pub struct BudgetState {
    /// Ticks per second on each CPU, at least 1.
    pub frequency: u32,
    /// Ticks per second on each CPU that the configuration calls for.
    pub full_frequency: u32,
    /// Why the frequency is lower than that.
    pub lowered: Option<Lowered>,
    /// CPU time by cause.
    pub cpu: CpuByCause,
    /// CPU time of the last window in % of total CPU capacity.
    pub cpu_percent: f64,
    /// Limit of the CPU time in % of total CPU capacity.
    pub cpu_percent_max: f64,
    /// Memory in use, in bytes.
    pub memory: u64,
    /// Limit of the memory in bytes.
    pub memory_max: u64,
}

/// Configuration reloads.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReloadCounts {
    /// Reloads that were applied.
    pub applied: u64,
    /// Reloads that were rejected.
    pub rejected: u64,
    /// The last reload was rejected.
    pub has_failed: bool,
    /// When the configuration in force was read, nanoseconds since 1970.
    pub read_unix_ns: u64,
}
