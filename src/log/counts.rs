//! Counts of lines, over all threads of the process.

use std::sync::atomic::{AtomicU64, Ordering};

/// Lines since the start of the process, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Written to standard error.
    pub written: u64,
    /// Not written, because standard error did not accept them.
    pub dropped: u64,
    /// Left out as repeats; the next line of this kind has their count.
    pub suppressed: u64,
}

pub(super) static WRITTEN: AtomicU64 = AtomicU64::new(0);
pub(super) static DROPPED: AtomicU64 = AtomicU64::new(0);
pub(super) static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// Returns the counts of lines so far.
pub fn counts() -> LogCounts {
    let [written, dropped, suppressed] =
        [&WRITTEN, &DROPPED, &SUPPRESSED].map(|count| count.load(Ordering::Relaxed));
    LogCounts { written, dropped, suppressed }
}
