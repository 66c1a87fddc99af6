//! What is known about the rows of one executable, and how the kernel finds them.
//!
//! An executable's text is divided into blocks. The kernel looks up a block by its number and
//! finds the slot of the rows there, or a value that stands for their absence.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::backoff::ContentHash;
use super::slots::Slot;
use crate::kernel::{WalkMaps, abi};
use crate::limits::{Charge, Owner};

/// The first block numbers are empty for good: mappings without rows refer to them, with one block
/// that covers even the largest mapping.
pub(super) const EMPTY_BLOCKS: Range<u32> = 1..64;
/// The next ones stand for executables for which no block numbers are left.
pub(super) const REFUSED_BLOCKS: Range<u32> = 64..127;
/// Block shift of both.
pub(super) const EMPTY_SHIFT: u32 = 31;
/// In the kernel's index of blocks: the rows are not loaded, ticks request them.
pub(super) const BLOCK_MISSING: u32 = 0;

/// The table of one executable.
#[derive(Debug)]
pub(super) struct TableEntry {
    /// First address of the executable's text.
    pub text_start: u64,
    /// Bytes of text per block, as a power of two.
    pub block_shift: u32,
    /// Numbers of its blocks in the kernel.
    pub numbers: Range<u32>,
    /// Its first numbers if they were replaced: published mappings may still refer to them.
    pub numbers_before: Range<u32>,
    pub state: TableState,
    /// When a frame of it was last delivered, on the row store's clock of samples.
    pub last_used: u64,
    /// Who pays for its rows and block numbers.
    pub owner: Owner,
    /// Pays for its block numbers.
    pub numbers_charge: Option<Charge>,
    /// Content of its file at the time of opening.
    pub content: Option<ContentHash>,
    /// When its rows were loaded, and the CPU time that reading them took.
    pub loaded: Option<(Instant, Duration)>,
}

#[derive(Debug)]
pub(super) enum TableState {
    /// Not requested yet, or evicted.
    Unread,
    /// The loader has it. Slots of blocks that were read ahead, by number; `None`: requested.
    Loading(HashMap<u32, Option<Slot>>),
    /// Its parts are loaded when they are requested: the file is large. Slots of parts by number;
    /// `None`: requested.
    Parts {
        /// Slot of each part.
        slots: HashMap<u32, Option<Slot>>,
        /// Rows of all parts that are loaded.
        rows: u64,
    },
    /// In the kernel.
    Ready {
        /// Slot of each block.
        slots: Vec<Slot>,
        /// Rows of all blocks.
        rows: u64,
    },
    /// The executable has no rows.
    Empty,
    /// The table does not fit, or is in backoff.
    Refused,
}

impl TableEntry {
    /// Whether the kernel finds rows of it, or soon will.
    pub fn has_rows(&self) -> bool {
        matches!(
            self.state,
            TableState::Ready { .. } | TableState::Parts { .. } | TableState::Loading(_)
        )
    }

    /// Returns the units of slabs that it occupies.
    pub fn units(&self) -> u64 {
        let units = |slot: &Slot| u64::from(slot.end - slot.start);
        match &self.state {
            TableState::Ready { slots, .. } => slots.iter().map(units).sum(),
            TableState::Loading(slots) | TableState::Parts { slots, .. } => {
                slots.values().flatten().map(units).sum()
            }
            TableState::Unread | TableState::Empty | TableState::Refused => 0,
        }
    }

    /// Whether it has block numbers of its own.
    pub fn is_numbered(&self) -> bool {
        self.block_shift != EMPTY_SHIFT
    }

    /// Changes the state, and publishes one value for all blocks. Returns the previous state,
    /// whose slots are unreferenced then.
    pub fn set_all(&mut self, maps: &WalkMaps, value: u32, state: TableState) -> TableState {
        set_blocks(maps, &self.numbers, value);
        std::mem::replace(&mut self.state, state)
    }

    /// Publishes the slot of one block.
    pub fn set_block(&self, maps: &WalkMaps, block: u32, slot: &Slot) {
        let value = if slot.is_empty() { abi::BLOCK_EMPTY } else { slot.start };
        if block < self.numbers.end - self.numbers.start {
            let _ = maps.set_block(self.numbers.start + block, value); // in range: cannot fail
        }
    }
}

impl TableState {
    /// Returns the slots of blocks that were or can be requested one by one, by number.
    pub fn requested(&mut self) -> Option<&mut HashMap<u32, Option<Slot>>> {
        match self {
            Self::Loading(slots) | Self::Parts { slots, .. } => Some(slots),
            Self::Ready { .. } | Self::Unread | Self::Empty | Self::Refused => None,
        }
    }

    /// Takes the slots that the table occupies.
    pub fn into_slots(self) -> Vec<Slot> {
        match self {
            Self::Ready { slots, .. } => slots,
            Self::Loading(slots) | Self::Parts { slots, .. } => {
                slots.into_values().flatten().collect()
            }
            Self::Unread | Self::Empty | Self::Refused => Vec::new(),
        }
    }
}

/// Publishes one value for all blocks with these numbers.
pub(super) fn set_blocks(maps: &WalkMaps, numbers: &Range<u32>, value: u32) {
    for number in numbers.clone() {
        let _ = maps.set_block(number, value); // in range: cannot fail
    }
}
