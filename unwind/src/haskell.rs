//! The layer of code that the Haskell compiler GHC made.
//!
//! Haskell functions keep their frames on a stack of their own, which rbp points to. They neither
//! call each other nor return: they jump, to `(%rbp)` in the end. The stack of C stays as `StgRun`
//! of the runtime has left it when it jumped to the first one: with a reserve of 16 KiB for spilled
//! values, and above it the registers that belong to C and the return address into the scheduler.
//! That is the only caller on that stack. sp moves only around a call of C, by the 8 bytes that
//! align it, or by those of arguments.
//!
//! GHC writes no call frames without `-g`. Its code is recognized by its jumps, and only where no
//! call frames are: those separate it from the C code of a program.
//!
//! Source: rts/StgCRun.c and compiler/GHC/CmmToAsm/X86 of GHC; checked with GHC 9.0.

use std::ops::Range;

use memchr::memmem;

use crate::arch::{SP, is_call_before};
use crate::code_reader::{CodeReader, ReadCode};
use crate::layers::{Layer, LayerStats};
use crate::rule::{Cfa, RegisterRule, Rule};

/// Bytes of one file that are read. The code of the largest library known, GHC's own, has 50 MB.
const READ_MAX: u64 = 128 << 20;
/// Bytes of a stretch by which it is recognized, and that are searched at once.
const PIECE: u64 = 64 << 10;
/// A stretch is Haskell code if one jump to `(%rbp)` comes on this many bytes. In real programs it
/// is one on 400 to 1,600 bytes, in other code one on 300,000.
const BYTES_PER_JUMP: usize = 4096;
/// Jumps that a stretch has at least.
const JUMPS_MIN: usize = 2;

/// Bytes from sp to the CFA of `StgRun`: the reserve, six registers, and the return address.
const FRAME: i32 = (16 << 10) + 6 * 8 + 8;
/// Where `StgRun` saves the frame pointer and the base register, in bytes from the CFA.
const SAVED_FP: i64 = -48;
const SAVED_BASE: i64 = -56;

/// `jmp *(%rbp)`: to the function on top of the stack.
const RETURN: [u8; 3] = [0xff, 0x65, 0x00];
/// `jmp *n(%r13)`: to a function of the runtime.
const TO_RUNTIME: [u8; 3] = [0x41, 0xff, 0x65];
/// `jmp *(%rbx)`: to evaluate a closure.
const ENTER: [u8; 2] = [0xff, 0x23];
/// `add $n, %rsp`, without its number.
const ADD: [u8; 3] = [0x48, 0x83, 0xc4];
/// `sub $n, %rsp`, without its number.
const SUBTRACT: [u8; 3] = [0x48, 0x83, 0xec];
/// Bytes of either with its number.
const INSTRUCTION: usize = 4;
/// Bytes from where sp is moved for a call to where it is moved back, at most.
const CALL_MAX: usize = 160;

/// Returns which of these stretches of code, ascending and without call frames, are Haskell code.
pub(crate) fn stretches(
    read: ReadCode<'_>,
    all: impl Iterator<Item = Range<u64>>,
) -> Vec<Range<u64>> {
    let mut layer = HaskellLayer::new(read, true);
    all.filter(|stretch| layer.next(stretch.clone()).is_some()).collect()
}

/// A layer of Haskell code.
pub(crate) struct HaskellLayer<'a> {
    code: CodeReader<'a>,
    /// End of the last stretch that was looked at.
    looked_at: u64,
    /// The stretch to push the rows of.
    current: Range<u64>,
    stats: LayerStats,
}

impl<'a> HaskellLayer<'a> {
    /// Makes the layer without reading any code. `is_separated`: the file has call frames, so that
    /// stretches without have no code of other compilers.
    pub fn new(read: ReadCode<'a>, is_separated: bool) -> Self {
        let code = CodeReader::new(read, if is_separated { READ_MAX } else { 0 });
        Self { code, looked_at: 0, current: 0..0, stats: LayerStats::default() }
    }

    /// Returns the calls of C in a piece of code: where sp is lower, and by how much.
    fn calls(&mut self, piece: Range<u64>, push: &mut dyn FnMut(Range<u64>, i32)) {
        let from = piece.start.saturating_sub(CALL_MAX as u64).max(self.current.start);
        let end = self.current.end.min(piece.end.saturating_add(INSTRUCTION as u64));
        let code = self.code.get(from..end);
        let mut last_end = 0;
        for at in memmem::find_iter(code, &ADD) {
            let address = from + at as u64;
            let Some(&bytes) = code.get(at + ADD.len()) else { break };
            let is_call =
                is_call_before(&code[..at]) && bytes % 8 == 0 && (8..128).contains(&bytes);
            if !is_call || !piece.contains(&address) {
                continue;
            }
            let before = last_end.max(at.saturating_sub(CALL_MAX));
            let subtract = [SUBTRACT[0], SUBTRACT[1], SUBTRACT[2], bytes];
            let begin = memmem::rfind(&code[before..at], &subtract);
            let begin = begin.map_or(at - 1, |begin| before + begin + INSTRUCTION);
            last_end = at + INSTRUCTION;
            push(from + begin as u64..from + last_end as u64, i32::from(bytes));
        }
    }
}

impl Layer for HaskellLayer<'_> {
    fn next(&mut self, stretch: Range<u64>) -> Option<Range<u64>> {
        if stretch.end <= self.looked_at {
            return None;
        }
        self.looked_at = stretch.end;
        let sample = stretch.start..stretch.end.min(stretch.start.saturating_add(PIECE));
        if !is_haskell(self.code.get(sample)) {
            return None;
        }
        self.current = stretch.clone();
        self.stats.functions += 1;
        Some(stretch)
    }

    fn rows(&mut self, push: &mut dyn FnMut(u64, Rule)) {
        let mut rows = 1;
        push(self.current.start, rule(0));
        let mut start = self.current.start;
        while start < self.current.end {
            let end = self.current.end.min(start.saturating_add(PIECE));
            self.calls(start..end, &mut |call, bytes| {
                push(call.start, rule(bytes));
                push(call.end, rule(0));
                rows += 2;
            });
            start = end;
        }
        self.stats.rows += rows;
    }

    fn stats(&self) -> LayerStats {
        self.stats
    }
}

fn is_haskell(code: &[u8]) -> bool {
    let count = |pattern: &[u8]| memmem::find_iter(code, pattern).count();
    let returns = count(&RETURN);
    returns >= JUMPS_MIN
        && returns * BYTES_PER_JUMP >= code.len()
        && count(&TO_RUNTIME) + count(&ENTER) > 0
}

/// Returns the rule where sp is `bytes` lower than `StgRun` has left it.
fn rule(bytes: i32) -> Rule {
    let saved = |at| RegisterRule::at_cfa(at).unwrap_or(RegisterRule::Undefined);
    Rule {
        cfa: Cfa::Register(SP, FRAME + bytes),
        fp: saved(SAVED_FP),
        base: saved(SAVED_BASE),
        ra: RegisterRule::SAVED_RA,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: u64 = 0x1000;
    /// `jmp *-8(%r13)`
    const CHECK: [u8; 4] = [0x41, 0xff, 0x65, 0xf8];
    /// `sub $8, %rsp; mov %rbx, %rdi; call; add $8, %rsp`
    const CALL: [u8; 16] =
        [0x48, 0x83, 0xec, 8, 0x48, 0x89, 0xdf, 0xe8, 1, 2, 3, 4, 0x48, 0x83, 0xc4, 8];

    /// Returns the rows of a stretch: each address, and the bytes from sp to the CFA.
    fn rows(text: &[u8], is_separated: bool) -> Vec<(u64, i32)> {
        let read = |range: Range<u64>| {
            let end = text.len().min((range.end - TEXT) as usize);
            text.get((range.start - TEXT) as usize..end).map(<[u8]>::to_vec)
        };
        let mut layer = HaskellLayer::new(&read, is_separated);
        let stretch = TEXT..TEXT + text.len() as u64;
        let mut rows = Vec::new();
        while let Some(function) = layer.next(stretch.clone()) {
            assert_eq!(function, stretch);
            layer.rows(&mut |address, rule| match rule.cfa {
                Cfa::Register(SP, offset) => rows.push((address, offset)),
                other => panic!("{other:?}"),
            });
        }
        rows
    }

    #[test]
    fn caller_is_found_above_the_reserve_and_the_alignment_of_calls() {
        let text = [&[0x90; 16][..], &CALL, &RETURN, &CHECK, &[0x90; 9], &CALL, &RETURN].concat();
        let expected =
            [(0x1000, 16440), (0x1014, 16448), (0x1020, 16440), (0x1034, 16448), (0x1040, 16440)];
        assert_eq!(rows(&text, true), expected);
    }

    #[test]
    fn call_with_arguments_on_the_stack_is_known_from_its_return_on() {
        let call = [0x6a, 1, 0x6a, 2, 0xe8, 1, 2, 3, 4, 0x48, 0x83, 0xc4, 16]; // push $1; push $2
        let text = [&call[..], &RETURN, &CHECK, &RETURN].concat();
        assert_eq!(rows(&text, true), [(0x1000, 16440), (0x1008, 16456), (0x100d, 16440)]);
    }

    #[test]
    fn calls_on_both_sides_of_a_piece_are_found() {
        let mut text = [&RETURN[..], &CHECK, &[0x90; 57]].concat().repeat(1100);
        let at = PIECE as usize - 14; // its last instruction begins before the end of the piece
        text[at..at + 16].copy_from_slice(&CALL);
        text[at + 64..at + 80].copy_from_slice(&CALL);
        let found: Vec<u64> = rows(&text, true).iter().skip(1).map(|(start, _)| *start).collect();
        let at = TEXT + at as u64;
        assert_eq!(found, [at + 4, at + 16, at + 68, at + 80]);
    }

    #[test]
    fn other_code_has_no_rows() {
        let haskell = [&CALL[..], &RETURN, &CHECK, &RETURN].concat();
        assert_eq!(rows(&haskell, false), [], "no call frames separate it from other code");
        assert_eq!(rows(&[&CALL[..], &RETURN, &RETURN].concat(), true), []);
        assert_eq!(rows(&[&CALL[..], &RETURN, &CHECK].concat(), true), []);
        assert_eq!(rows(&[&haskell[..], &[0x90; 9000]].concat(), true), []);
        assert_eq!(rows(&[], true), []);
    }
}
