//! What of a file's code has no rows: whether it is worth deriving some.

use std::ops::Range;

use crate::layers::is_padding;

/// Stretches of code that no source of a file has rows for. What only aligns the next function is
/// not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Bytes of code of the file.
    pub code: u64,
    /// Stretches of less than 64 bytes. Most align a function, too.
    pub short: u64,
    /// Longer stretches.
    pub long: u64,
    /// Bytes of these.
    pub long_bytes: u64,
}

impl Gaps {
    const LONG_MIN: u64 = 64;
    /// Bytes of the start-up code without call frames that every program has in one stretch.
    const START_UP_MAX: u64 = 224;
    /// Bytes of code up to which short stretches are worth a look: for a larger file that takes a
    /// tenth of a second, and nearly all of its short stretches are padding.
    const CODE_MAX: u64 = 16 << 20;

    /// Adds a stretch, as far as it is code. `executable`: ranges of code, ascending and disjoint.
    pub(crate) fn add(&mut self, executable: &[Range<u64>], gap: Range<u64>) {
        let from = executable.partition_point(|range| range.end <= gap.start);
        for range in executable[from..].iter().take_while(|range| range.start < gap.end) {
            let bytes = range.end.min(gap.end) - range.start.max(gap.start);
            if bytes >= Self::LONG_MIN {
                self.long += 1;
                self.long_bytes += bytes;
            } else if bytes > 0 && !is_padding(range.start.max(gap.start), gap.end) {
                self.short += 1;
            }
        }
    }

    /// Starts without stretches. `executable`: ranges of code.
    pub(crate) fn of(executable: &[Range<u64>]) -> Self {
        let code = executable.iter().map(|range| range.end - range.start).sum();
        Self { code, ..Self::default() }
    }

    /// Bytes of long stretches beyond which rows are derived for parts of the code: those of all of
    /// it would take seconds, and tens of megabytes.
    pub(crate) const AT_ONCE_MAX: u64 = 32 << 20;

    /// Returns whether rows are derived for parts of the code, when they are needed.
    pub fn are_derived_in_parts(&self) -> bool {
        self.long_bytes > Self::AT_ONCE_MAX
    }

    /// Returns whether there is more than the start-up code that every program has.
    pub fn are_worth_deriving(&self) -> bool {
        self.long > 1
            || self.long_bytes > Self::START_UP_MAX
            || self.short > 0 && self.code <= Self::CODE_MAX
    }
}
