//! What of a file's code has no rows: whether it is worth deriving some.

use std::ops::Range;

use crate::layers::{ALIGNMENT_MAX, is_padding};

/// Reads bytes that a file loads at addresses.
type Loaded<'a> = &'a dyn Fn(Range<u64>) -> Option<Vec<u8>>;

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

    /// Longest stretch that may be filler alone: pages are aligned to so much.
    const FILLER_MAX: u64 = 4096;

    /// Adds a stretch, as far as it is code. `executable`: ranges of code, ascending and disjoint.
    /// `loaded`: reads the code, until it is known that it is worth deriving rows.
    pub(crate) fn add(&mut self, executable: &[Range<u64>], gap: Range<u64>, loaded: Loaded<'_>) {
        let from = executable.partition_point(|range| range.end <= gap.start);
        for range in executable[from..].iter().take_while(|range| range.start < gap.end) {
            let stretch = range.start.max(gap.start)..range.end.min(gap.end);
            let whole = stretch.end - stretch.start;
            if whole == 0 || whole < Self::LONG_MIN && is_padding(stretch.start, gap.end) {
                continue;
            }
            let is_read = whole <= Self::FILLER_MAX && !self.are_worth_deriving();
            let code = if is_read { loaded(stretch.clone()) } else { None };
            let bytes = code.map_or(whole, |code| bytes_before_filler(&code, stretch.start));
            if bytes >= Self::LONG_MIN {
                self.long += 1;
                self.long_bytes += bytes;
            } else if bytes > 0 {
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

/// Returns the bytes of code up to the filler at its end, which begins at an aligned address or is
/// all of it.
fn bytes_before_filler(code: &[u8], start: u64) -> u64 {
    let first_aligned = (start.wrapping_neg() % ALIGNMENT_MAX) as usize;
    let aligned = (first_aligned..code.len()).step_by(ALIGNMENT_MAX as usize);
    let filler = std::iter::once(0).chain(aligned).find(|at| is_filler(&code[*at..]));
    filler.unwrap_or(code.len()) as u64
}

/// Returns whether code is what assemblers and linkers fill space with: `nop` of any length,
/// `int3`, zeros, and before much of these a short jump over them.
fn is_filler(mut code: &[u8]) -> bool {
    /// Bytes of `nop` with an operand behind `0f 1f`, by its addressing mode.
    const MODES: [(u8, usize); 5] = [(0x00, 1), (0x40, 2), (0x44, 3), (0x80, 5), (0x84, 6)];
    while let Some((first, rest)) = code.split_first() {
        code = match first {
            0x00 | 0x90 | 0xcc => rest,
            0x66 if !rest.is_empty() => rest, // the prefixes of longer ones
            0xeb if rest.first().is_some_and(|bytes| usize::from(*bytes) < rest.len()) => {
                &rest[1..]
            }
            0x2e if rest.first() == Some(&0x0f) => rest,
            0x0f if rest.first() == Some(&0x1f) => {
                let mode = rest.get(1);
                let length = MODES.iter().find(|(byte, _)| Some(byte) == mode).map(|(_, n)| n + 1);
                match length.and_then(|length| rest.get(length..)) {
                    Some(rest) => rest,
                    None => return false,
                }
            }
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filler_is_no_code() {
        let fillers: [&[u8]; 9] = [
            &[0xeb, 0x03, 0x0f, 0x1f, 0x00],
            &[0x90; 100],
            &[0xcc, 0xcc],
            &[0; 64],
            &[0x66, 0x90, 0x0f, 0x1f, 0x00],
            &[0x0f, 0x1f, 0x40, 0, 0x0f, 0x1f, 0x44, 0, 0, 0x66, 0x0f, 0x1f, 0x44, 0, 0],
            &[0x0f, 0x1f, 0x80, 0, 0, 0, 0, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
            &[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
            &[0x66, 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x90],
        ];
        assert!(fillers.iter().all(|code| is_filler(code)), "{fillers:x?}");
        let codes: [&[u8]; 8] = [
            &[0xeb, 0x04, 0x0f, 0x1f, 0x00],
            &[0xeb, 0x01, 0xc3],
            &[0xc3],
            &[0x90, 0x0f, 0x05],
            &[0x0f, 0x1f],
            &[0x0f, 0x1f, 0x84, 0, 0],
            &[0x2e],
            &[0x66, 0xff, 0xe0],
        ];
        assert!(!codes.iter().any(|code| is_filler(code)), "{codes:x?}");
    }

    #[test]
    fn stretches_of_filler_are_not_worth_deriving() {
        let executable = [0x1000..0x9000, 0xa000..0xa001];
        let filler = |range: Range<u64>| Some(vec![0x90; (range.end - range.start) as usize]);
        let code = |range: Range<u64>| Some(vec![0x55; (range.end - range.start) as usize]);
        let mut gaps = Gaps::of(&executable);
        for at in 0..100 {
            gaps.add(&executable, 0x1010 + at * 0x80..0x1080 + at * 0x80, &filler);
        }
        gaps.add(&executable, 0x8010..0x8030, &filler);
        assert!(!gaps.are_worth_deriving(), "{gaps:?}");
        gaps.add(&executable, 0x8010..0x8030, &code);
        assert!(gaps.are_worth_deriving() && (gaps.short, gaps.long) == (1, 0), "{gaps:?}");
        let trailing = |_| Some([vec![0x55; 0x60], vec![0x90; 0x120]].concat());
        let mut gaps = Gaps::of(&executable);
        gaps.add(&executable, 0x2010..0x2190, &trailing);
        assert_eq!((gaps.long, gaps.long_bytes), (1, 0x60));
        let mut gaps = Gaps::of(&executable);
        gaps.add(&executable, 0x2000..0x5000, &filler);
        assert_eq!((gaps.long, gaps.long_bytes), (1, 0x3000), "longer than an alignment");
    }
}
