//! Code that says nothing about its frames, or nothing true, but is known by its place or its bytes.
//!
//! Nothing calls the entry point of a file, so it is the outermost frame; the C library musl has no
//! call-frame information at all, and Go's runtime returns from signals in assembly without. For these, only
//! bytes that no function table speaks of are looked at.
//!
//! Contexts of glibc's makecontext begin with a frame that says it was called, which is not so: its layer lies
//! above call-frame information.

use std::ops::Range;

use memchr::memmem;

use crate::arch::{CodePattern, ENTRY_LEN, MISDESCRIBED_CODE, UNDESCRIBED_CODE, is_call_before};
use crate::code_reader::{CodeReader, ReadCode};
use crate::layers::{Layer, LayerStats, RangeLayer};
use crate::rule::Rule;

/// Bytes that are searched in one file.
const SEARCHED_MAX: u64 = 16 << 20;
/// Places that are known in one file; real ones have three.
const FOUND_MAX: u64 = 64;
/// Bytes of a file that are searched for what is told wrongly: a C library has 1.5 MB.
const CORRECTED_MAX: u64 = 4 << 20;
/// Bytes before a stretch that are looked at, for the call that may be there.
const BEFORE: u64 = 8;

/// The layer of known code.
pub(crate) struct CodePatternLayer<'a> {
    known: &'static [CodePattern],
    text: CodeReader<'a>,
    entry: u64,
    /// The stretch that was searched last, and what of it was not given yet.
    searched: Range<u64>,
    found: RangeLayer,
}

impl<'a> CodePatternLayer<'a> {
    /// Code that nothing speaks of. `entry`: the file's entry point, 0 when it has none. `has_runtime`: it may
    /// hold such assembly, as static executables and dynamic linkers do.
    pub fn new(read: ReadCode<'a>, entry: u64, has_runtime: bool) -> Self {
        Self::of(
            UNDESCRIBED_CODE,
            CodeReader::new(read, if has_runtime { SEARCHED_MAX } else { 0 }),
            entry,
        )
    }

    /// Code whose call frames are told wrongly. `has_contexts`: it may hold glibc's functions for contexts.
    pub fn misdescribed(read: ReadCode<'a>, has_contexts: bool) -> Self {
        Self::of(
            MISDESCRIBED_CODE,
            CodeReader::new(read, if has_contexts { CORRECTED_MAX } else { 0 }),
            0,
        )
    }

    /// Has searched nothing yet.
    fn of(known: &'static [CodePattern], text: CodeReader<'a>, entry: u64) -> Self {
        Self { known, text, entry, searched: 0..0, found: RangeLayer::default() }
    }

    fn search(&mut self, stretch: Range<u64>) {
        let room = FOUND_MAX.saturating_sub(self.found.seen().functions) as usize;
        let found = &mut self.found.waiting;
        found.clear();
        if stretch.contains(&self.entry) && self.entry != 0 {
            let end = stretch.end.min(self.entry.saturating_add(ENTRY_LEN));
            found.push_back((self.entry..end, Rule::ROOT));
        }
        let shortest = self.known.iter().map(|known| known.len).min().unwrap_or(0);
        if stretch.end.saturating_sub(stretch.start) < shortest || room == 0 {
            return;
        }
        let mut from = stretch.start.saturating_sub(BEFORE);
        if self.text.get(from..stretch.end).is_empty() {
            from = stretch.start; // code begins here
        }
        let text = self.text.get(from..stretch.end);
        for known in self.known {
            let places = memmem::find_iter(text, known.bytes).take(room);
            for at in places.filter(|at| from + *at as u64 >= stretch.start) {
                let start = from + at as u64;
                let before = u64::from(known.is_returned_to && !is_call_before(&text[..at]));
                let range = start - before..start + known.len;
                if found.iter().all(|(k, _)| range.end <= k.start || k.end <= range.start) {
                    found.push_back((range, known.rule));
                }
            }
        }
        found.make_contiguous().sort_by_key(|(range, _)| range.start);
    }
}

impl Layer for CodePatternLayer<'_> {
    fn next(&mut self, stretch: Range<u64>) -> Option<Range<u64>> {
        let is_searched = self.searched.start <= stretch.start && self.searched.end == stretch.end;
        if !is_searched {
            self.search(stretch.clone());
            self.searched = stretch.clone();
        }
        self.found.next(stretch)
    }

    fn rows(&mut self, push: &mut dyn FnMut(u64, Rule)) {
        self.found.rows(push);
    }

    fn seen(&self) -> LayerStats {
        self.found.seen()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNAL_RETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05];

    fn search(text: &[u8], entry: u64, stretch: Range<u64>) -> Vec<(Range<u64>, Rule)> {
        found(text, stretch, |read| CodePatternLayer::new(read, entry, true))
    }

    fn found(
        text: &[u8],
        stretch: Range<u64>,
        layer: impl for<'a> FnOnce(ReadCode<'a>) -> CodePatternLayer<'a>,
    ) -> Vec<(Range<u64>, Rule)> {
        let read = |range: Range<u64>| {
            let end = text.len().min(range.end as usize - 0x1000);
            let start = range.start.checked_sub(0x1000)?;
            text.get(start as usize..end).map(<[u8]>::to_vec)
        };
        let mut layer = layer(&read);
        let mut found = Vec::new();
        while let Some(range) = layer.next(stretch.clone()) {
            layer.rows(&mut |_, rule| found.push((range.clone(), rule)));
        }
        found
    }

    #[test]
    fn the_entry_point_is_the_outermost_frame() {
        let known = search(&[0x90; 256], 0x1020, 0x1010..0x1030);
        assert_eq!(known, [(0x1020..0x1030, Rule::ROOT)]);
    }

    #[test]
    fn a_signal_returns_to_the_first_byte() {
        let mut text = vec![0x90; 256];
        text[32..41].copy_from_slice(&SIGNAL_RETURN);
        let known = search(&text, 0, 0x1020..0x1080);
        assert_eq!(known, [(0x101f..0x102a, Rule::SIGNAL)]);
    }

    #[test]
    fn what_a_call_returns_to_is_no_signal_frame() {
        let mut text = vec![0x90; 256];
        text[27] = 0xe8; // call, which ends where the signal's return begins
        text[32..41].copy_from_slice(&SIGNAL_RETURN);
        let known = search(&text, 0, 0x1020..0x1080);
        assert_eq!(known[0].0, 0x1020..0x102a);
    }

    #[test]
    fn a_context_of_glibc_begins_with_what_its_function_returns_to() {
        let mut text = vec![0x90; 256];
        text[32..45].copy_from_slice(MISDESCRIBED_CODE[0].bytes);
        for from in [0x1000, 0x1010] {
            let known =
                found(&text, from..0x1080, |read| CodePatternLayer::misdescribed(read, true));
            assert_eq!(known, [(0x101f..0x103a, Rule::ROOT)]);
        }
        assert_eq!(
            found(&text, 0x1000..0x1080, |read| CodePatternLayer::misdescribed(read, false)),
            []
        );
    }

    #[test]
    fn code_that_has_call_frames_is_not_searched() {
        let mut text = vec![0x90; 256];
        text[32..41].copy_from_slice(&SIGNAL_RETURN);
        assert_eq!(search(&text, 0x1000, 0x1021..0x1080), []);
    }
}
