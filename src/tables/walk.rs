//! Walks a stack snapshot here, by the rows that the kernel has: twin of `bpf/walk.h`.

use std::collections::BTreeSet;

use profile::{ExecutableId, StackEnd, VirtAddr};
use unwind::arch::RED_ZONE;
use unwind::{Registers, Step, frame_pointer, step};

use super::{Found, Tables};
use crate::events::{StackSnapshot, UserFrame};
use crate::kernel::abi::{PAGE_BYTES, STACK_SNAPSHOT_MAX, STACK_SNAPSHOT_SHORT, USER_FRAMES_MAX};
use crate::processes::{AddressSpace, Executables};

/// Blocks that are asked for at once beside the one that is needed.
const BLOCKS_AHEAD: usize = 63;
/// Words of a stack that lead to code and are looked at to find them.
const WORDS_MAX: usize = 1024;

/// What came of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalkOutcome {
    /// All frames that can be found, and why they end.
    Done(Box<[UserFrame]>, StackEnd),
    /// The rows of this executable are needed first, and are being read.
    MissingRows(ExecutableId),
}

impl Tables {
    /// Goes on with a walk, and asks for the rows that it lacks. `frames`: those that it has, the last of which `rest` tells.
    /// `memory`: what was mapped when the stack was copied.
    pub fn walk(
        &mut self,
        frames: &[UserFrame],
        rest: &StackSnapshot,
        memory: &AddressSpace,
        executables: &Executables,
    ) -> WalkOutcome {
        let mut at = rest.at;
        let lowest = at.sp.wrapping_sub(RED_ZONE);
        let read = |address: u64| {
            let into = usize::try_from(address.checked_sub(lowest)?).ok()?;
            Some(u64::from_ne_bytes(rest.stack.get(into..into.checked_add(8)?)?.try_into().ok()?))
        };
        let mut frames = frames.to_vec();
        let end = loop {
            if frames.len() >= USER_FRAMES_MAX as usize {
                break StackEnd::Depth;
            }
            let rule = match self.find(memory, executables, VirtAddr(at.lookup_address())) {
                Found::Rule(rule) => rule,
                Found::Missing(id, block) => {
                    let blocks = self.blocks_ahead(&rest.stack, memory, executables, id);
                    if self.request(id, &[vec![block], blocks].concat(), executables) {
                        return WalkOutcome::MissingRows(id);
                    }
                    continue; // now it is known that there are none
                }
                Found::Refused => break StackEnd::NoTable,
                Found::NoMapping => break StackEnd::NoMapping,
            };
            let (caller, is_guessed) = match step(&at, &rule, read) {
                Step::Caller(caller) => (caller, false),
                Step::NoRow => match frame_pointer::step(&at, read) {
                    Ok(caller) if memory.find(VirtAddr(caller.lookup_address())).is_some() => {
                        (caller, true)
                    }
                    Err(frame_pointer::FramePointerEnd::Unreadable) => break self.unread(rest),
                    _ => break StackEnd::NoRow,
                },
                Step::Root => break StackEnd::Complete,
                Step::NotExpressible => break StackEnd::NotExpressible,
                Step::Unreadable => break self.unread(rest),
                Step::ReturnAddress => break StackEnd::ReturnAddress,
            };
            at = caller;
            frames.push(frame(&at, is_guessed));
        };
        WalkOutcome::Done(frames.into(), end)
    }

    /// Guesses which blocks of an executable a walk needs that cannot see them before it has the first: all that words
    /// of the stack lead to. Some are of calls that are over; a block more does not cost much.
    fn blocks_ahead(
        &self,
        stack: &[u8],
        memory: &AddressSpace,
        executables: &Executables,
        id: ExecutableId,
    ) -> Vec<u32> {
        let words = stack.chunks_exact(8).filter_map(|word| word.try_into().ok());
        let blocks: BTreeSet<u32> = words
            .map(|word| VirtAddr(u64::from_ne_bytes(word)))
            .filter_map(|at| match self.find(memory, executables, at) {
                Found::Missing(of, block) if of == id => Some(block),
                _ => None,
            })
            .take(WORDS_MAX)
            .collect();
        blocks.into_iter().take(BLOCKS_AHEAD).collect()
    }

    /// Why a read failed: most likely the stack goes on behind the snapshot.
    fn unread(&self, rest: &StackSnapshot) -> StackEnd {
        let lowest = rest.at.sp.wrapping_sub(RED_ZONE);
        let bytes = lowest % PAGE_BYTES + rest.stack.len() as u64;
        let is_full = [STACK_SNAPSHOT_SHORT, STACK_SNAPSHOT_MAX].contains(&(bytes as usize));
        if is_full { StackEnd::SnapshotEnd } else { StackEnd::Unreadable }
    }
}

fn frame(at: &Registers, is_guessed: bool) -> UserFrame {
    UserFrame { address: VirtAddr(at.ip), is_exact: !at.is_return, is_guessed }
}
