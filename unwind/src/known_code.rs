//! Code that says nothing about its frames but is known by its place or its bytes.
//!
//! Nothing calls the entry point of a file, so it is the outermost frame; the C library musl and Go's
//! runtime start threads and return from signals in assembly without call-frame information. Only
//! bytes that no FDE speaks of are looked at.

use std::ops::Range;

use memchr::memmem;

use crate::arch::{ENTRY_LEN, KNOWN_CODE, is_call_before};
use crate::rule::Rule;

/// Bytes that are searched in one file.
const SEARCHED_MAX: u64 = 16 << 20;
/// Bytes that are read at once.
const READ: u64 = 64 << 10;
/// Bytes before a gap that are looked at, for the call that may be there.
const BEFORE: u64 = 8;

/// Gives the bytes of a file at these addresses.
pub(crate) type ReadText<'a> = &'a dyn Fn(Range<u64>) -> Option<Vec<u8>>;

/// A rule for some addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where it is in force.
    pub range: Range<u64>,
    /// What it says.
    pub rule: Rule,
}

/// Searches the gaps between functions, in the order of their addresses.
pub(crate) struct Search<'a> {
    read: ReadText<'a>,
    entry: u64,
    /// Bytes that may still be read.
    left: u64,
    /// What was read last, and where it begins.
    text: (u64, Vec<u8>),
}

impl<'a> Search<'a> {
    /// Starts to search. `entry`: the file's entry point, 0 when it has none. `has_runtime`: it may hold
    /// such assembly, as static executables and dynamic linkers do.
    pub fn new(read: ReadText<'a>, entry: u64, has_runtime: bool) -> Self {
        let left = if has_runtime { SEARCHED_MAX } else { 0 };
        Self { read, entry, left, text: (0, Vec::new()) }
    }

    /// Gives what is known of a gap between two functions, in the order of addresses. What it gives may
    /// begin one byte before the gap.
    pub fn gap(&mut self, gap: Range<u64>) -> Vec<Known> {
        let mut known = Vec::new();
        if gap.contains(&self.entry) && self.entry != 0 {
            let end = gap.end.min(self.entry.saturating_add(ENTRY_LEN));
            known.push(Known { range: self.entry..end, rule: Rule::BOTTOM });
        }
        let shortest = KNOWN_CODE.iter().map(|(bytes, _)| bytes.len() as u64).min().unwrap_or(0);
        if gap.end.saturating_sub(gap.start) < shortest {
            return known;
        }
        let from = gap.start.saturating_sub(BEFORE);
        let text = self.text(from..gap.end);
        for (bytes, rule) in KNOWN_CODE {
            for at in memmem::find_iter(text, bytes).filter(|at| from + *at as u64 >= gap.start) {
                let start = from + at as u64;
                // A handler returns to the first byte, so the rule is asked for at the one before.
                let before = u64::from(*rule == Rule::SIGNAL && !is_call_before(&text[..at]));
                let range = start - before..start + bytes.len() as u64;
                if known.iter().all(|k| range.end <= k.range.start || k.range.end <= range.start) {
                    known.push(Known { range, rule: *rule });
                }
            }
        }
        known.sort_by_key(|known| known.range.start);
        known
    }

    /// Gives what the file has at these addresses; nothing when that is not known.
    fn text(&mut self, range: Range<u64>) -> &[u8] {
        let (start, text) = &self.text;
        if !(*start..start + text.len() as u64 + 1).contains(&range.end) || range.start < *start {
            let len = (range.end - range.start).max(READ);
            let Some(left) = self.left.checked_sub(len) else { return &[] };
            self.left = left;
            let end = range.start.saturating_add(len);
            self.text = (range.start, (self.read)(range.start..end).unwrap_or_default());
        }
        let (start, text) = &self.text;
        let at = |address: u64| ((address - start) as usize).min(text.len());
        &text[at(range.start)..at(range.end)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNAL_RETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05];

    fn search(text: &[u8], entry: u64, gap: Range<u64>) -> Vec<Known> {
        let read = |range: Range<u64>| {
            let end = text.len().min(range.end as usize - 0x1000);
            text.get(range.start as usize - 0x1000..end).map(<[u8]>::to_vec)
        };
        Search::new(&read, entry, true).gap(gap)
    }

    #[test]
    fn the_entry_point_is_the_outermost_frame() {
        let known = search(&[0x90; 256], 0x1020, 0x1010..0x1030);
        assert_eq!(known, [Known { range: 0x1020..0x1030, rule: Rule::BOTTOM }]);
    }

    #[test]
    fn a_signal_returns_to_the_first_byte() {
        let mut text = vec![0x90; 256];
        text[32..41].copy_from_slice(&SIGNAL_RETURN);
        let known = search(&text, 0, 0x1020..0x1080);
        assert_eq!(known, [Known { range: 0x101f..0x1029, rule: Rule::SIGNAL }]);
    }

    #[test]
    fn what_a_call_returns_to_is_no_signal_frame() {
        let mut text = vec![0x90; 256];
        text[27] = 0xe8; // call, which ends where the signal's return begins
        text[32..41].copy_from_slice(&SIGNAL_RETURN);
        let known = search(&text, 0, 0x1020..0x1080);
        assert_eq!(known[0].range, 0x1020..0x1029);
    }

    #[test]
    fn code_that_has_call_frames_is_not_searched() {
        let mut text = vec![0x90; 256];
        text[32..41].copy_from_slice(&SIGNAL_RETURN);
        assert_eq!(search(&text, 0x1000, 0x1021..0x1080), []);
    }
}
