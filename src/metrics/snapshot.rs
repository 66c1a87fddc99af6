//! Everything that metrics tell, as of one moment. The agent fills it; see `table.rs` for what each value means to others.

use std::collections::BTreeMap;
use std::time::Duration;

use upload::delivery;

use super::health::State;
use super::totals::Totals;
use crate::session::SessionCounts;

/// The agent as of one moment. Counts are since its start unless they say otherwise.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When the agent was started, nanoseconds since 1970.
    pub started_unix_ns: u64,
    /// What health and readiness go by.
    pub state: State,
    /// Times that sampling has begun.
    pub starts: u64,
    /// Ledgers of all windows.
    pub totals: Totals,
    /// What the session has come to: processes, tables, the sampler's own time.
    pub session: SessionCounts,
    /// Names of frames.
    pub names: Names,
    /// Windows.
    pub windows: Windows,
    /// Label sets.
    pub series: Series,
    /// Batches, sinks and the spool.
    pub delivery: delivery::Counts,
    /// What the agent costs.
    pub own: Own,
    /// What it may cost, and what it does about that.
    pub budget: Budget,
    /// Attempts to read the configuration again.
    pub reloads: Reloads,
}

/// What became of frames on their way to a name: distinct ones of each window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names {
    /// Frames that got one.
    pub named: u64,
    /// Frames that stayed addresses.
    pub unnamed: u64,
}

/// What became of windows: `closed = accepted + empty + lost + refused by delivery + those on their way`.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    /// Windows that were closed.
    pub closed: u64,
    /// Windows that are in the spool, or were.
    pub accepted: u64,
    /// Windows without a sample, of which there is no batch.
    pub empty: u64,
    /// Windows that were lost before delivery heard of them, by reason. One that never occurred is best there with a 0, so
    /// that Prometheus sees its first increase.
    pub lost: BTreeMap<&'static str, u64>,
    /// End of the last window that was closed, nanoseconds since 1970; 0 before the first.
    pub last_unix_ns: u64,
    /// End of the last window that was accepted, likewise.
    pub accepted_unix_ns: u64,
}

/// Label sets of windows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Series {
    /// Series of the last window.
    pub last: u64,
    /// Series that were merged because a window had too many.
    pub merged: u64,
    /// Samples of those.
    pub merged_samples: u64,
}

/// What the agent's processes cost. What BPF costs is in [`Snapshot::session`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Own {
    /// This process.
    pub agent: Part,
    /// The processes that find names.
    pub symbolizer: Part,
    /// The processes that open files.
    pub file_helper: Part,
}

/// What processes have used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Bytes of memory that are resident now.
    pub resident: u64,
}

/// The budget, and the step that is in force.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    /// Steps below the full pace; 0 is the full pace.
    pub step: u32,
    /// Ticks a second on each CPU; 0 while nothing is sampled.
    pub frequency: u32,
    /// Frames of a user stack; 0 for as many as there are.
    pub user_frames: u32,
    /// Per cent of the machine's CPU time that the last window took.
    pub cpu_percent: f64,
    /// The same that it may take.
    pub cpu_percent_max: f64,
    /// Bytes of memory in use.
    pub memory: u64,
    /// The same that may be in use.
    pub memory_max: u64,
}

/// Attempts to read the configuration again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reloads {
    /// Attempts that were taken over.
    pub done: u64,
    /// Attempts after which the old configuration stayed.
    pub failed: u64,
    /// The last attempt failed.
    pub is_stale: bool,
    /// When a configuration was taken over, nanoseconds since 1970.
    pub read_unix_ns: u64,
}
