//! A window on its way from the profiling loop to delivery, and what became of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use profile::{Labels, MergedSeries, Profile};

use crate::metrics::LossReason;
use crate::session::ClosedWindow;
use crate::symbolization::NameCounts;

/// A closed window that waits to be published.
pub(super) struct PendingWindow {
    pub closed: ClosedWindow,
    /// Configured sampling frequency in Hz, for the profile's comments.
    pub frequency: u32,
    /// What the budget allowed and what was used, for the profile's comments.
    pub budget: Vec<String>,
    /// Maximum number of series.
    pub series_max: usize,
    /// Labels that all series carry.
    pub labels: Arc<Labels>,
    /// Time within which the window is symbolized, so that the next one is not delayed.
    pub symbolization_max: Duration,
    /// CPU time that names may take, in CPU seconds per second.
    pub names_cpu_rate: f64,
    /// Set when the agent stops: symbolization ends before its time limit.
    pub stop_symbolizing: Arc<AtomicBool>,
}

/// What became of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublishResult {
    /// The spool has it.
    Accepted,
    /// It has no samples, so there is nothing to deliver.
    Empty,
    /// The spool refused it. Delivery counts it, with the reason.
    Refused,
    /// It was lost before delivery saw it.
    Lost(LossReason),
}

/// Size of a published profile.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProfileStats {
    /// Frames with and without a symbol.
    pub names: NameCounts,
    /// Series, after merging.
    pub series: u64,
    /// Distinct series of the last hour.
    pub series_of_hour: u64,
    /// Series that were merged because there were too many in the window.
    pub merged_in_window: MergedSeries,
    /// Series that were merged because there were too many in the last hour.
    pub merged_in_hour: MergedSeries,
}

impl ProfileStats {
    /// Counts the series of a profile.
    pub fn of(profile: &Profile, names: NameCounts) -> Self {
        let mut series: Vec<_> = profile.tasks.iter().map(|task| &task.labels).collect();
        series.sort();
        series.dedup();
        Self { names, series: series.len() as u64, ..Self::default() }
    }
}
