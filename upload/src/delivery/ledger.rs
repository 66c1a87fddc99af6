//! The delivery ledger: every closed window accounted for, for each sink.
//!
//! ```text
//! found + closed = delivered + partly + pending + lost(reason)
//! ```
//!
//! All but `pending` are counted as they happen; `pending` is what waits in the spool.

use std::fmt;

use profile::LedgerImbalance;

use crate::batch::Failure;

/// How often each [`Failure`] occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reasons([u64; Failure::COUNT]);

impl Reasons {
    /// How often this one occurred.
    pub fn count(&self, reason: Failure) -> u64 {
        self.0[reason as usize]
    }

    /// How often any occurred.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those that occurred, and how often.
    pub fn occurred(&self) -> impl Iterator<Item = (Failure, u64)> {
        let all = Failure::ALL.iter().map(|reason| (*reason, self.count(*reason)));
        all.filter(|(_, count)| *count > 0)
    }

    pub(super) fn add(&mut self, reason: Failure) {
        self.0[reason as usize] += 1;
    }
}

/// Adds up what occurred.
impl FromIterator<(Failure, u64)> for Reasons {
    fn from_iter<I: IntoIterator<Item = (Failure, u64)>>(counts: I) -> Self {
        let mut reasons = Self::default();
        counts.into_iter().for_each(|(reason, count)| reasons.0[reason as usize] += count);
        reasons
    }
}

/// Accounts for the windows of one sink since the agent started. All are counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Windows that an earlier life had left in the spool.
    pub found: u64,
    /// Windows that were closed since, whether the spool took them or not.
    pub closed: u64,
    /// Windows that the sink has, whole.
    pub delivered: u64,
    /// Windows that the sink has but for what its server refused.
    pub partly: u64,
    /// Windows in the spool.
    pub pending: u64,
    /// Windows that the sink will never have, before or after the spool took them.
    pub lost: Reasons,
}

impl Ledger {
    /// Verifies the equation.
    ///
    /// # Errors
    /// When it does not hold: a defect of the delivery.
    pub fn check(&self) -> Result<(), LedgerImbalance> {
        let equation = "found + closed = delivered + partly + pending + lost";
        let left = self.found + self.closed;
        let right = self.delivered + self.partly + self.pending + self.lost.total();
        if left == right { Ok(()) } else { Err(LedgerImbalance { equation, left, right }) }
    }
}

/// Writes the ledger as a line of plain text. What is 0 for almost everybody is left out.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extra = |name: &str, count: u64, sign: [&str; 2]| match count {
            0 => String::new(),
            _ => format!("{}{name} {count}{}", sign[0], sign[1]),
        };
        write!(
            f,
            "{}closed {} = delivered {}{} + pending {} + lost {}",
            extra("found", self.found, ["", " + "]),
            self.closed,
            self.delivered,
            extra("partly", self.partly, [" + ", ""]),
            self.pending,
            self.lost.total()
        )?;
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
        balanced().check().expect("it closes");
        assert_eq!(
            balanced().to_string(),
            "found 2 + closed 7 = delivered 4 + partly 1 + pending 2 + lost 2 \
             (rejected: 1, spool_full: 1)"
        );
        let quiet = Ledger { closed: 3, delivered: 3, ..Ledger::default() };
        assert_eq!(quiet.to_string(), "closed 3 = delivered 3 + pending 0 + lost 0");
    }

    #[test]
    fn a_window_that_nobody_counted_is_seen() {
        let mut ledger = balanced();
        ledger.pending -= 1;
        let defect = ledger.check().expect_err("one window is gone");
        assert_eq!((defect.left, defect.right), (9, 8));
    }
}
