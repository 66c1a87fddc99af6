//! Unwinds stack snapshots: continues the kernel's walk with the same rows. Twin of `bpf/walk.h`.

use std::collections::BTreeSet;

use profile::{ExecutableId, StackEnd, VirtAddr};
use unwind::arch::{RED_ZONE, SP, VSYSCALL};
use unwind::{Cfa, RegisterRule, Registers, Rule, Step, frame_pointer, step};

use super::row_store::{RowStore, RuleLookup};
use crate::events::{StackSnapshot, UserFrame};
use crate::kernel::abi::USER_FRAMES_MAX;
use crate::processes::{AddressSpace, Executables};

/// Blocks requested at once beside the one that is needed.
const BLOCKS_AHEAD: usize = 63;
/// Words of a stack that point into missing blocks and are considered for that.
const WORDS_MAX: usize = 1024;

/// What came of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalkOutcome {
    /// All frames that can be found, and why they end.
    Finished(WalkedStack),
    /// The row of an address in this executable is needed first; it is being loaded.
    MissingRows(ExecutableId, VirtAddr),
}

/// A stack that is walked as far as it can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkedStack {
    /// All of its frames, innermost first.
    pub frames: Box<[UserFrame]>,
    /// Why they end.
    pub end: StackEnd,
    /// The canonical frame addresses of the frame where the snapshot was taken, and of its callers
    /// but the last.
    pub cfas: Vec<u64>,
}

/// What a walk does about rows that are not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MissingRows {
    /// Requests them, and ends.
    Requested,
    /// Goes on as if there were none.
    Absent,
}

/// Walks one stack snapshot.
pub struct SnapshotUnwinder<'a> {
    /// The rows to walk by; requests those that are missing.
    pub rows: &'a mut RowStore,
    /// The mappings at the time of the snapshot.
    pub memory: &'a AddressSpace,
    /// The files behind them.
    pub executables: &'a Executables,
    /// Where the kernel's walk stopped.
    pub snapshot: &'a StackSnapshot,
}

impl SnapshotUnwinder<'_> {
    /// Walks once ahead of time, for the rows that it requests alone.
    ///
    /// Until the kernel has them, each tick of the process takes a snapshot. The result of this
    /// walk is dropped: process events that are not applied yet may change the mappings, so
    /// [`Self::walk`] repeats it when the sample is due. Returns whether the walk ended at an
    /// address in no mapping.
    pub fn request_missing_rows(&mut self, frames: &[UserFrame]) -> bool {
        let outcome = self.walk(frames);
        matches!(outcome, WalkOutcome::Finished(stack) if stack.end == StackEnd::NoMapping)
    }

    /// Continues the walk after `frames`, the last of which is where the snapshot was taken.
    pub fn walk(&mut self, frames: &[UserFrame]) -> WalkOutcome {
        match self.walk_until_missing(frames, MissingRows::Requested) {
            (_, Some((id, address))) => WalkOutcome::MissingRows(id, address),
            (stack, None) => WalkOutcome::Finished(stack),
        }
    }

    /// Continues the walk like [`Self::walk`] with the rows that are there. It ends where a table
    /// is missing; where rows may be derived later, callers are guessed.
    pub fn walk_by_loaded_rows(&mut self, frames: &[UserFrame]) -> WalkedStack {
        self.walk_until_missing(frames, MissingRows::Absent).0
    }

    /// Returns the stack, and the executable and address whose row is missing if it ends there.
    fn walk_until_missing(
        &mut self,
        frames: &[UserFrame],
        missing: MissingRows,
    ) -> (WalkedStack, Option<(ExecutableId, VirtAddr)>) {
        let (mut registers, mut cfas) = (self.snapshot.registers, Vec::new());
        let mut frames = frames.to_vec();
        let end = loop {
            if frames.len() >= USER_FRAMES_MAX as usize {
                break Ok(StackEnd::Depth);
            }
            let address = VirtAddr(registers.lookup_address());
            let rule = match self.lookup_rule(address) {
                RuleLookup::Rule(rule) => rule,
                RuleLookup::Pending(..) if missing == MissingRows::Absent => Rule::NO_ROW,
                RuleLookup::Missing(id, _) if missing == MissingRows::Absent => {
                    break Err((id, address));
                }
                lookup @ (RuleLookup::Missing(id, block) | RuleLookup::Pending(id, block)) => {
                    let ahead = match lookup {
                        RuleLookup::Pending(..) => self.blocks_of_frame_pointers(id, &registers),
                        _ => self.blocks_of_words(id),
                    };
                    let blocks: Vec<u32> = [block].into_iter().chain(ahead).collect();
                    if self.rows.request(id, &blocks, self.executables) {
                        break Err((id, address));
                    }
                    continue; // the request has found that there are none
                }
                RuleLookup::Refused => break Ok(StackEnd::NoTable),
                RuleLookup::NoMapping => break Ok(StackEnd::NoMapping),
            };
            correct_last_frame(&mut frames, &registers, &rule);
            match self.step(&registers, &rule) {
                Ok((caller, is_guessed)) => {
                    let (address, is_exact) = (VirtAddr(caller.ip), !caller.is_behind);
                    frames.push(UserFrame { address, is_exact, is_guessed });
                    cfas.push(caller.sp);
                    registers = caller;
                }
                Err(end) => break Ok(end),
            }
        };
        let (end, missing) = match end {
            Ok(end) => (end, None),
            Err(missing) => (StackEnd::NoTable, Some(missing)),
        };
        (WalkedStack { frames: frames.into(), end, cfas }, missing)
    }

    fn lookup_rule(&self, address: VirtAddr) -> RuleLookup {
        if VSYSCALL.contains(&address.0) {
            return RuleLookup::Rule(Rule::VSYSCALL);
        }
        self.rows.lookup_rule(self.memory, self.executables, address)
    }

    /// Steps to the caller by a rule, or by frame pointer where there is no row. Returns also
    /// whether the caller is guessed.
    fn step(&self, registers: &Registers, rule: &Rule) -> Result<(Registers, bool), StackEnd> {
        let read = |address| self.read_word(address);
        let rule = without_red_zone(self.snapshot, registers, rule);
        match step(registers, &rule, read) {
            Step::Caller(caller) => Ok((caller, false)),
            Step::NoRow => match frame_pointer::step(registers, read) {
                Ok(caller) if self.is_mapped(&caller) => Ok((caller, true)),
                Err(frame_pointer::FramePointerEnd::Unreadable) => Err(self.unreadable()),
                _ => Err(StackEnd::NoRow),
            },
            Step::Root | Step::Outside => Err(StackEnd::Complete),
            Step::NotExpressible => Err(StackEnd::NotExpressible),
            Step::Unreadable => Err(self.unreadable()),
            Step::BadReturnAddress => Err(StackEnd::BadReturnAddress),
        }
    }

    fn is_mapped(&self, registers: &Registers) -> bool {
        self.memory.find(VirtAddr(registers.lookup_address())).is_some()
    }

    /// Reads a word of the snapshot's stack.
    fn read_word(&self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.snapshot.start)?).ok()?;
        let word = self.snapshot.stack.get(offset..offset.checked_add(8)?)?;
        Some(u64::from_ne_bytes(word.try_into().ok()?))
    }

    /// Guesses which blocks of an executable a walk will need that cannot see them before it has
    /// the first: all that words of the stack point into. Some are of calls that have returned,
    /// but an additional block is cheap.
    fn blocks_of_words(&self, id: ExecutableId) -> BTreeSet<u32> {
        let words = self.snapshot.stack.chunks_exact(8).filter_map(|word| word.try_into().ok());
        let missing = words
            .filter_map(|word| self.missing_block(id, VirtAddr(u64::from_ne_bytes(word))))
            .take(WORDS_MAX);
        let blocks: BTreeSet<u32> = missing.collect();
        blocks.into_iter().take(BLOCKS_AHEAD).collect()
    }

    /// The same where rows are derived, which costs more than a look at call frames: the blocks
    /// that frame pointers lead to.
    fn blocks_of_frame_pointers(&self, id: ExecutableId, from: &Registers) -> BTreeSet<u32> {
        let next = |at: &Registers| frame_pointer::step(at, |word| self.read_word(word)).ok();
        std::iter::successors(next(from), next)
            .take(BLOCKS_AHEAD)
            .filter_map(|caller| self.missing_block(id, VirtAddr(caller.lookup_address())))
            .collect()
    }

    /// Returns the block of an executable that an address is in, if its rows are missing.
    fn missing_block(&self, id: ExecutableId, address: VirtAddr) -> Option<u32> {
        match self.rows.lookup_rule(self.memory, self.executables, address) {
            RuleLookup::Missing(executable, block) | RuleLookup::Pending(executable, block)
                if executable == id =>
            {
                Some(block)
            }
            _ => None,
        }
    }

    /// Returns why a read failed: most likely the stack goes on past a full snapshot.
    fn unreadable(&self) -> StackEnd {
        if self.snapshot.is_full { StackEnd::SnapshotEnd } else { StackEnd::Unreadable }
    }
}

/// Corrects the last frame, if its address was put on the stack by hand. The kernel makes signal
/// handlers return to the first instruction of the code that ends them, and nothing ever was in a
/// frame outside of the root. A frame that was interrupted has its own address: that code may be in
/// its system call.
fn correct_last_frame(frames: &mut Vec<UserFrame>, registers: &Registers, rule: &Rule) {
    match (rule.cfa, frames.last_mut()) {
        (Cfa::Outside, _) => drop(frames.pop()),
        (Cfa::Signal, Some(last)) if registers.all.is_none() => last.is_exact = true,
        _ => {}
    }
}

/// Replaces what a rule would read below a snapshot: those of perf begin at sp, without the red
/// zone. Rows point there after a register has been popped, and then the register itself has the
/// value.
fn without_red_zone(snapshot: &StackSnapshot, registers: &Registers, rule: &Rule) -> Rule {
    let Cfa::Register(SP, offset) = rule.cfa else { return *rule };
    let cfa = registers.sp.wrapping_add_signed(offset.into());
    let red_zone = snapshot.registers.sp.wrapping_sub(RED_ZONE)..snapshot.start;
    let in_red_zone = |words: i8| red_zone.contains(&cfa.wrapping_add_signed(8 * i64::from(words)));
    let readable = |saved| match saved {
        RegisterRule::AtCfa(words) if in_red_zone(words) => RegisterRule::SameValue,
        saved => saved,
    };
    Rule { fp: readable(rule.fp), base: readable(rule.base), ..*rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn popped_register_has_its_value_where_there_is_no_red_zone() {
        let registers = Registers {
            ip: 1,
            is_behind: false,
            sp: 0x7000,
            fp: Some(7),
            base: Some(8),
            all: None,
            callee: None,
        };
        // Before `ret`: fp and the base register have been popped, and the CFA is next to sp.
        let saved = RegisterRule::AtCfa;
        let rule = Rule {
            cfa: Cfa::Register(SP, 8),
            fp: saved(-2),
            base: saved(-3),
            ra: RegisterRule::SAVED_RA,
        };
        let same = RegisterRule::SameValue;
        let popped = Rule { fp: same, base: same, ..rule };
        let check = |start, cfa, expected| {
            let snapshot =
                StackSnapshot { registers, start, stack: Box::default(), is_full: false };
            let rule = Rule { cfa, ..rule };
            assert_eq!(without_red_zone(&snapshot, &registers, &rule), Rule { cfa, ..expected });
        };
        check(0x7000, rule.cfa, popped);
        check(0x7000 - RED_ZONE, rule.cfa, rule);
        check(0x7000, Cfa::Register(SP, 24), Rule { base: saved(-3), ..rule });
        check(0x7000, Cfa::Register(SP, 16), Rule { base: same, ..rule });
    }
}
