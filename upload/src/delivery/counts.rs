//! What the delivery tells of itself: for metrics, for readiness, for the last line of a life.

use std::collections::BTreeMap;
use std::time::Duration;

use profile::LedgerImbalance;

use super::ledger::{Ledger, Reasons};
use crate::debug_info::UploadEnd;

/// The delivery at one moment, counted since the agent started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Windows that were to be accepted.
    pub closed: u64,
    /// Windows that the spool took for each sink.
    pub accepted: u64,
    /// Windows that it did not take for some sink, by reason.
    pub refused: Reasons,
    /// Bytes of all batches in the spool, each counted once and in whole blocks of the disk.
    pub spool_bytes: u64,
    /// Their bound.
    pub spool_bytes_max: u64,
    /// Each sink, by name.
    pub sinks: BTreeMap<String, SinkCounts>,
}

/// One sink at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkCounts {
    /// Every window, accounted for.
    pub ledger: Ledger,
    /// Attempts to deliver, by how they ended.
    pub attempts: Attempts,
    /// Series or samples that the server refused of windows that it otherwise has.
    pub rejected: u64,
    /// Bytes that were sent for windows that the sink has.
    pub bytes_sent: u64,
    /// Files whose debug info its server may want.
    pub uploads: Uploads,
    /// Bytes of the batches that wait for it. A batch that waits for several counts for each.
    pub spool_bytes: u64,
    /// How long ago the window that waits for longest began.
    pub oldest_age: Option<Duration>,
    /// Damaged files of the spool that were moved out of the way.
    pub set_aside: u64,
    /// What went wrong last, in words.
    pub last_error: Option<String>,
}

/// Attempts to deliver a batch, by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// The sink has it.
    pub delivered: u64,
    /// The sink has it but for what its server refused.
    pub partly: u64,
    /// To be tried again.
    pub later: Reasons,
    /// Given up.
    pub refused: Reasons,
}

/// Files whose debug info a server may want, by what became of each; one is counted again when it is dealt with again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uploads {
    /// The server has it.
    pub held: u64,
    /// There is none.
    pub nothing: u64,
    /// It could not be uploaded, and will be tried again.
    pub postponed: u64,
}

impl Uploads {
    /// Counts one file.
    pub(super) fn add(&mut self, end: UploadEnd) {
        *match end {
            UploadEnd::Held => &mut self.held,
            UploadEnd::Nothing => &mut self.nothing,
            UploadEnd::Postponed => &mut self.postponed,
        } += 1;
    }
}

impl Counts {
    /// Verifies every equation.
    ///
    /// # Errors
    /// The first that does not hold: a defect of the delivery.
    pub fn check(&self) -> Result<(), LedgerImbalance> {
        let (left, right) = (self.closed, self.accepted + self.refused.total());
        if left != right {
            return Err(LedgerImbalance { equation: "closed = accepted + refused", left, right });
        }
        self.sinks.values().try_for_each(|sink| sink.ledger.check())
    }

    /// Windows that wait for any sink.
    pub fn pending(&self) -> u64 {
        self.sinks.values().map(|sink| sink.ledger.pending).sum()
    }
}
