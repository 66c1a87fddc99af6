//! The layers of code that has no call frames, or wrong ones, but is recognized by its address or
//! its bytes.
//!
//! - Nothing calls the entry point of a file: it is the root of the stack.
//! - The C library musl has no call-frame information at all. Programs return from signals and
//!   start contexts in assembly that has none. Only bytes that belong to no function are searched
//!   for these.
//! - Contexts of glibc's `makecontext` begin with a frame whose call frames say, wrongly, that it
//!   was called. This layer lies above call-frame information.

mod x86_64;

use std::ops::Range;

use memchr::memmem;

use crate::arch::is_call_before;
use crate::code_reader::{CodeReader, ReadCode};
use crate::layers::{Layer, LayerStats, RangeLayer};
use crate::rule::Rule;
use x86_64::{CodePattern, ENTRY_LEN, MISDESCRIBED_CODE, RUNTIME_CODE, UNDESCRIBED_CODE};

/// Bytes of one file searched for code without call frames.
const UNDESCRIBED_SEARCHED_MAX: u64 = 16 << 20;
/// Bytes of one file searched for code with wrong call frames: a C library has 1.5 MB.
const MISDESCRIBED_SEARCHED_MAX: u64 = 4 << 20;
/// Matches in one file; real files have three.
const MATCHES_MAX: u64 = 64;
/// Bytes before a stretch that are read too, for the call that may be there.
const BEFORE: u64 = 8;

/// A layer of code patterns.
pub(crate) struct CodePatternLayer<'a> {
    patterns: [&'static [CodePattern]; 2],
    code: CodeReader<'a>,
    entry: u64,
    /// The stretch that was searched last.
    searched: Range<u64>,
    /// Matches in that stretch which have not been returned yet.
    matches: RangeLayer,
}

impl<'a> CodePatternLayer<'a> {
    /// Makes the layer of code without call frames. `entry`: the file's entry point, 0 if it has
    /// none. `has_runtime`: the file may hold the start-up code of a C library, as static
    /// executables and dynamic linkers do.
    pub fn undescribed(read: ReadCode<'a>, entry: u64, has_runtime: bool) -> Self {
        let runtime = if has_runtime { RUNTIME_CODE } else { &[] };
        let code = CodeReader::new(read, UNDESCRIBED_SEARCHED_MAX);
        Self::new([UNDESCRIBED_CODE, runtime], code, entry)
    }

    /// Makes the layer of the entry point alone, without reading any code.
    pub fn entry_point(entry: u64) -> Self {
        Self::new([&[], &[]], CodeReader::new(&|_| None, 0), entry)
    }

    /// Makes the layer of code with wrong call frames. `has_contexts`: the file may hold glibc's
    /// functions for contexts.
    pub fn misdescribed(read: ReadCode<'a>, has_contexts: bool) -> Self {
        let bytes_max = if has_contexts { MISDESCRIBED_SEARCHED_MAX } else { 0 };
        Self::new([MISDESCRIBED_CODE, &[]], CodeReader::new(read, bytes_max), 0)
    }

    fn new(patterns: [&'static [CodePattern]; 2], code: CodeReader<'a>, entry: u64) -> Self {
        Self { patterns, code, entry, searched: 0..0, matches: RangeLayer::default() }
    }

    fn search(&mut self, stretch: Range<u64>) {
        let matches_left = MATCHES_MAX.saturating_sub(self.matches.stats().functions) as usize;
        let matches = &mut self.matches.pending;
        matches.clear();
        if stretch.contains(&self.entry) && self.entry != 0 {
            let end = stretch.end.min(self.entry.saturating_add(ENTRY_LEN));
            matches.push_back((self.entry..end, Rule::ROOT));
        }
        let all = self.patterns.into_iter().flatten();
        let shortest = all.clone().map(|pattern| pattern.len).min().unwrap_or(u64::MAX);
        if stretch.end.saturating_sub(stretch.start) < shortest || matches_left == 0 {
            return;
        }
        let mut from = stretch.start.saturating_sub(BEFORE);
        if self.code.get(from..stretch.end).is_empty() {
            from = stretch.start; // code begins here
        }
        let code = self.code.get(from..stretch.end);
        for pattern in all {
            let offsets = memmem::find_iter(code, pattern.bytes).take(matches_left);
            for at in offsets.filter(|at| from + *at as u64 >= stretch.start) {
                let start = from + at as u64;
                let before = u64::from(pattern.is_returned_to && !is_call_before(&code[..at]));
                let range = start - before..start + pattern.len;
                if matches.iter().all(|(m, _)| range.end <= m.start || m.end <= range.start) {
                    matches.push_back((range, pattern.rule));
                }
            }
        }
        matches.make_contiguous().sort_by_key(|(range, _)| range.start);
    }
}

impl Layer for CodePatternLayer<'_> {
    fn next(&mut self, stretch: Range<u64>) -> Option<Range<u64>> {
        let is_searched = self.searched.start <= stretch.start && self.searched.end == stretch.end;
        if !is_searched {
            self.search(stretch.clone());
            self.searched = stretch.clone();
        }
        self.matches.next(stretch)
    }

    fn rows(&mut self, push: &mut dyn FnMut(u64, Rule)) {
        self.matches.rows(push);
    }

    fn stats(&self) -> LayerStats {
        self.matches.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNAL_RETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05];

    /// Returns the matches for code without call frames in `text`, which lies at 0x1000.
    fn search(text: &[u8], entry: u64, stretch: Range<u64>) -> Vec<(Range<u64>, Rule)> {
        matches(text, stretch, |read| CodePatternLayer::undescribed(read, entry, true))
    }

    fn matches(
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
        let mut matches = Vec::new();
        while let Some(range) = layer.next(stretch.clone()) {
            layer.rows(&mut |_, rule| matches.push((range.clone(), rule)));
        }
        matches
    }

    #[test]
    fn entry_point_is_the_root() {
        let matches = search(&[0x90; 256], 0x1020, 0x1010..0x1030);
        assert_eq!(matches, [(0x1020..0x1030, Rule::ROOT)]);
    }

    #[test]
    fn signal_return_covers_the_byte_before_it() {
        let mut text = vec![0x90; 256];
        text[32..41].copy_from_slice(&SIGNAL_RETURN);
        let matches = search(&text, 0, 0x1020..0x1080);
        assert_eq!(matches, [(0x101f..0x1029, Rule::SIGNAL)]);
    }

    #[test]
    fn nop_behind_a_call_is_before_a_signal_return() {
        // As in a static program of musl: call __stack_chk_fail; nop; __restore_rt.
        let mut text = vec![0x90; 256];
        text[26..31].copy_from_slice(&[0xe8, 0x28, 0xfd, 0xff, 0xff]);
        text[32..41].copy_from_slice(&SIGNAL_RETURN);
        assert_eq!(search(&text, 0, 0x1018..0x1080), [(0x101f..0x1029, Rule::SIGNAL)]);
    }

    #[test]
    fn start_of_a_boost_context_is_the_root() {
        let mut text = vec![0x90; 256];
        let start = [0x55, 0xff, 0xe3, 0x48, 0x31, 0xff, 0xe8, 0x49, 0xfe, 0xff, 0xff, 0xf4];
        text[0x3c..0x48].copy_from_slice(&start);
        let matches =
            matches(&text, 0x1010..0x1080, |read| CodePatternLayer::undescribed(read, 0, false));
        assert_eq!(matches, [(0x103c..0x1047, Rule::ROOT)]);
    }

    #[test]
    fn start_up_code_is_searched_for_only_where_it_can_be() {
        let mut text = vec![0x90; 256];
        text[32..46].copy_from_slice(RUNTIME_CODE[0].bytes);
        for (has_runtime, count) in [(true, 1), (false, 0)] {
            let matches = matches(&text, 0x1010..0x1080, |read| {
                CodePatternLayer::undescribed(read, 0, has_runtime)
            });
            assert_eq!(matches.len(), count, "{has_runtime}");
        }
    }

    #[test]
    fn signal_return_after_a_call_begins_at_its_first_byte() {
        let mut text = vec![0x90; 256];
        text[27] = 0xe8; // call, which ends where the signal's return begins
        text[32..41].copy_from_slice(&SIGNAL_RETURN);
        let matches = search(&text, 0, 0x1020..0x1080);
        assert_eq!(matches[0].0, 0x1020..0x1029);
    }

    #[test]
    fn start_of_a_glibc_context_is_the_root() {
        let mut text = vec![0x90; 256];
        text[32..45].copy_from_slice(MISDESCRIBED_CODE[0].bytes);
        for from in [0x1000, 0x1010] {
            let matches =
                matches(&text, from..0x1080, |read| CodePatternLayer::misdescribed(read, true));
            assert_eq!(matches, [(0x101f..0x103a, Rule::ROOT)]);
        }
        let matches =
            matches(&text, 0x1000..0x1080, |read| CodePatternLayer::misdescribed(read, false));
        assert_eq!(matches, []);
    }

    #[test]
    fn does_not_search_code_with_call_frames() {
        let mut text = vec![0x90; 256];
        text[32..41].copy_from_slice(&SIGNAL_RETURN);
        assert_eq!(search(&text, 0x1000, 0x1021..0x1080), []);
    }
}
