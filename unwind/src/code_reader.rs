//! The code of a file, read piece by piece and forwards.

use std::ops::Range;

/// Bytes that are read at once.
const READ: u64 = 64 << 10;

/// Gives the bytes of a file at these addresses.
pub(crate) type ReadCode<'a> = &'a dyn Fn(Range<u64>) -> Option<Vec<u8>>;

/// A window on the code of a file, within a bound of bytes that are read.
pub(crate) struct CodeReader<'a> {
    read: ReadCode<'a>,
    /// Bytes that may still be read.
    left: u64,
    /// Where the window begins, and what it shows.
    window: (u64, Vec<u8>),
}

impl<'a> CodeReader<'a> {
    /// Has read nothing yet. `most`: bytes that may be read.
    pub fn new(read: ReadCode<'a>, most: u64) -> Self {
        Self { read, left: most, window: (0, Vec::new()) }
    }

    /// Gives what the file has at these addresses: less where it ends, nothing when that is not known.
    pub fn get(&mut self, range: Range<u64>) -> &[u8] {
        let (start, bytes) = &self.window;
        if !(*start..start + bytes.len() as u64 + 1).contains(&range.end) || range.start < *start {
            let len = range.end.saturating_sub(range.start).max(READ);
            let Some(left) = self.left.checked_sub(len) else { return &[] };
            self.left = left;
            let end = range.start.saturating_add(len);
            self.window = (range.start, (self.read)(range.start..end).unwrap_or_default());
        }
        let (start, bytes) = &self.window;
        let at = |address: u64| (address.saturating_sub(*start) as usize).min(bytes.len());
        bytes.get(at(range.start)..at(range.end)).unwrap_or_default()
    }
}
