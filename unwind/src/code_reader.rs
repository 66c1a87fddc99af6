//! Forward reading of a file's code, a window at a time.

use std::ops::Range;

/// Bytes that are read at once.
const WINDOW: u64 = 64 << 10;

/// Reads the bytes of a file at these addresses.
pub(crate) type ReadCode<'a> = &'a dyn Fn(Range<u64>) -> Option<Vec<u8>>;

/// A window on the code of a file that moves forward, within a limit of bytes.
pub(crate) struct CodeReader<'a> {
    read: ReadCode<'a>,
    /// Bytes that may still be read.
    bytes_left: u64,
    /// Address and bytes of the window.
    window: (u64, Vec<u8>),
}

impl<'a> CodeReader<'a> {
    /// Starts without reading. `bytes_max`: bytes that may be read.
    pub fn new(read: ReadCode<'a>, bytes_max: u64) -> Self {
        Self { read, bytes_left: bytes_max, window: (0, Vec::new()) }
    }

    /// Returns the bytes at these addresses: fewer where the code ends, none where it is unknown.
    pub fn get(&mut self, range: Range<u64>) -> &[u8] {
        let (start, bytes) = &self.window;
        if !(*start..start + bytes.len() as u64 + 1).contains(&range.end) || range.start < *start {
            let len = range.end.saturating_sub(range.start).max(WINDOW);
            let Some(left) = self.bytes_left.checked_sub(len) else { return &[] };
            self.bytes_left = left;
            let end = range.start.saturating_add(len);
            self.window = (range.start, (self.read)(range.start..end).unwrap_or_default());
        }
        let (start, bytes) = &self.window;
        let at = |address: u64| (address.saturating_sub(*start) as usize).min(bytes.len());
        bytes.get(at(range.start)..at(range.end)).unwrap_or_default()
    }
}
