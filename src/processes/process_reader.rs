//! What reading processes from procfs needs: owners, and shares of CPU time.

use std::time::{Duration, Instant};

use super::owners::OwnerReader;
use crate::limits::{Owner, OwnerCpuShares, SharedRate};

/// Reads processes within shares of CPU time.
#[derive(Debug)]
pub(super) struct ProcessReader {
    /// Reads owners.
    pub owners: OwnerReader,
    /// CPU time for reading processes when they are sampled, the file helper's included.
    time: OwnerCpuShares,
    /// The rate of `time`, which another thread may change.
    rate: SharedRate,
    /// The rate as it was applied last.
    applied_rate: f64,
    /// Processes read so far.
    pub count: u64,
}

impl ProcessReader {
    /// Limits the CPU time to a rate that another thread may change.
    pub fn limit(&mut self, rate: SharedRate) {
        self.rate = rate;
    }

    /// Whether a process of an owner may be read now.
    pub fn has_time(&mut self, owner: Owner) -> bool {
        let (rate, now) = (self.rate.get(), Instant::now());
        if rate != self.applied_rate {
            self.time.set_rate(rate, now);
            self.applied_rate = rate;
        }
        self.time.has_credit(owner, now)
    }
}

impl ProcessReader {
    /// Charges CPU time to an owner.
    pub fn charge(&mut self, owner: Owner, used: Duration) {
        self.time.charge(owner, used, Instant::now());
    }
}

impl Default for ProcessReader {
    fn default() -> Self {
        Self {
            owners: OwnerReader::default(),
            time: OwnerCpuShares::unlimited(),
            rate: SharedRate::unlimited(),
            applied_rate: f64::INFINITY,
            count: 0,
        }
    }
}
