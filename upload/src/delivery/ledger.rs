//! The delivery ledger: accounts for every closed window, for each sink.
//!
//! ```text
//! found + closed = delivered + partly + pending + lost(reason)
//! ```
//!
//! All terms but `pending` are counted as they happen; `pending` is the number of batches in the
//! spool.

use std::fmt;

use profile::LedgerImbalance;

use crate::batch::Failure;

/// Number of failures for each [`Failure`] reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureCounts([u64; Failure::COUNT]);

impl FailureCounts {
    /// Returns the count of one reason.
    pub fn count(&self, reason: Failure) -> u64 {
        self.0[reason as usize]
    }

    /// Returns the sum over all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns the reasons that occurred, with their counts.
    pub fn occurred(&self) -> impl Iterator<Item = (Failure, u64)> {
        let all = Failure::ALL.iter().map(|reason| (*reason, self.count(*reason)));
        all.filter(|(_, count)| *count > 0)
    }

    pub(super) fn add(&mut self, reason: Failure) {
        self.0[reason as usize] += 1;
    }
}

/// Sums the counts of equal reasons.
impl FromIterator<(Failure, u64)> for FailureCounts {
    fn from_iter<I: IntoIterator<Item = (Failure, u64)>>(counts: I) -> Self {
        let mut sums = Self::default();
        counts.into_iter().for_each(|(reason, count)| sums.0[reason as usize] += count);
        sums
    }
}

/// Windows of one sink since the agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Windows that an earlier run left in the spool.
    pub found: u64,
    /// Windows closed since, accepted by the spool or not.
    pub closed: u64,
    /// Windows delivered whole.
    pub delivered: u64,
    /// Windows delivered except for what the server rejected.
    pub partly: u64,
    /// Windows in the spool.
    pub pending: u64,
    /// Windows that never reach the sink, lost before or after the spool accepted them.
    pub lost: FailureCounts,
}

impl Ledger {
    /// Verifies the equation.
    ///
    /// # Errors
    /// If it does not hold, which is a defect of the delivery.
    pub fn check(&self) -> Result<(), LedgerImbalance> {
        let equation = "found + closed = delivered + partly + pending + lost";
        let left = self.found + self.closed;
        let right = self.delivered + self.partly + self.pending + self.lost.total();
        if left == right { Ok(()) } else { Err(LedgerImbalance { equation, left, right }) }
    }
}

/// Writes the equation as one line of text. `found` and `partly`, which are rare, are omitted
/// when 0.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.found > 0 {
            write!(f, "found {} + ", self.found)?;
        }
        write!(f, "closed {} = delivered {}", self.closed, self.delivered)?;
        if self.partly > 0 {
            write!(f, " + partly {}", self.partly)?;
        }
        write!(f, " + pending {} + lost {}", self.pending, self.lost.total())?;
        let reasons: Vec<String> =
            self.lost.occurred().map(|(reason, count)| format!("{reason}: {count}")).collect();
        if reasons.is_empty() { Ok(()) } else { write!(f, " ({})", reasons.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balanced() -> Ledger {
        let mut ledger = Ledger {
            found: 2,
            closed: 7,
            delivered: 4,
            partly: 1,
            pending: 2,
            ..Ledger::default()
        };
        ledger.lost.add(Failure::SpoolFull);
        ledger.lost.add(Failure::Rejected);
        ledger
    }

    #[test]
    fn a_balanced_ledger_reads_as_an_equation() {
        balanced().check().expect("it balances");
        assert_eq!(
            balanced().to_string(),
            "found 2 + closed 7 = delivered 4 + partly 1 + pending 2 + lost 2 \
             (rejected: 1, spool_full: 1)"
        );
        let quiet = Ledger { closed: 3, delivered: 3, ..Ledger::default() };
        assert_eq!(quiet.to_string(), "closed 3 = delivered 3 + pending 0 + lost 0");
    }

    #[test]
    fn an_uncounted_window_is_detected() {
        let mut ledger = balanced();
        ledger.pending -= 1;
        let defect = ledger.check().expect_err("one window is missing");
        assert_eq!((defect.left, defect.right), (9, 8));
    }
}
