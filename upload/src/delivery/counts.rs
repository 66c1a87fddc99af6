//! Figures of the delivery: for metrics, readiness, and the last log line of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use profile::LedgerImbalance;

use super::ledger::{FailureCounts, Ledger};
use crate::debug_info::UploadStatus;
use crate::transport::ResponseCounts;

/// The delivery at one moment, counted since the agent started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Windows handed to [`super::Delivery::accept`].
    pub closed: u64,
    /// Windows accepted for every sink.
    pub accepted: u64,
    /// Windows not accepted for some sink, by reason.
    pub refused: FailureCounts,
    /// Bytes of all batches in the spool, each counted once and in whole disk blocks.
    pub spool_bytes: u64,
    /// Limit of `spool_bytes`.
    pub spool_bytes_max: u64,
    /// Each sink, by name.
    pub sinks: BTreeMap<String, SinkCounts>,
}

/// One sink at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkCounts {
    /// Account of every batch.
    pub ledger: Ledger,
    /// Delivery attempts, by result.
    pub attempts: Attempts,
    /// Responses of the server to requests with profiles, by code.
    pub responses: ResponseCounts,
    /// Series or samples that the server rejected from batches that it otherwise has.
    pub rejected: u64,
    /// Bytes sent for batches that the sink has.
    pub bytes_sent: u64,
    /// Debug info that its server may want.
    pub debug_info: DebugInfoCounts,
    /// Time for which batches waited because delivery had used the CPU time allowed.
    pub cpu_wait: Duration,
    /// Bytes of the batches that wait for it. A batch that waits for several sinks counts for each.
    pub spool_bytes: u64,
    /// Time since the start of the oldest batch that waits.
    pub oldest_age: Option<Duration>,
    /// Damaged spool files moved into quarantine.
    pub quarantined: u64,
    /// Text of the last failure.
    pub last_error: Option<String>,
}

/// Delivery attempts, by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// The sink has the batch.
    pub delivered: u64,
    /// The sink has the batch except for what its server rejected.
    pub partly: u64,
    /// To be retried.
    pub later: FailureCounts,
    /// Rejected for good, so that the batch was dropped.
    pub rejected: FailureCounts,
}

/// Files whose debug info a server may want, by the result of each attempt to upload it. A file
/// counts again each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DebugInfoCounts {
    /// The server has the debug info.
    pub stored: u64,
    /// There is no debug info, or none better than before.
    pub no_debug_info: u64,
    /// The upload failed and will be retried.
    pub postponed: u64,
}

impl DebugInfoCounts {
    pub(super) fn add(&mut self, status: UploadStatus) {
        *match status {
            UploadStatus::Stored => &mut self.stored,
            UploadStatus::NoDebugInfo => &mut self.no_debug_info,
            UploadStatus::Postponed => &mut self.postponed,
        } += 1;
    }
}

impl Counts {
    /// Verifies every equation.
    ///
    /// # Errors
    /// The first that does not hold, which is a defect of the delivery.
    pub fn check(&self) -> Result<(), LedgerImbalance> {
        let (left, right) = (self.closed, self.accepted + self.refused.total());
        if left != right {
            return Err(LedgerImbalance { equation: "closed = accepted + refused", left, right });
        }
        self.sinks.values().try_for_each(|sink| sink.ledger.check())
    }

    /// Returns the batches that wait, summed over all sinks.
    pub fn pending(&self) -> u64 {
        self.sinks.values().map(|sink| sink.ledger.pending).sum()
    }
}
