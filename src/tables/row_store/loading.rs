//! Publishes the rows that the loader has read.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use crossbeam_channel::Select;
use profile::ExecutableId;
use unwind::{Block, CallFrames, Error, Table};

use super::RowStore;
use crate::kernel::abi;
use crate::processes::Executables;
use crate::tables::backoff::{Backoffs, ContentHash};
use crate::tables::large_files::PartLayout;
use crate::tables::load_request::LoadedRows;
use crate::tables::slots::Slot;
use crate::tables::table_entry::{BLOCK_MISSING, TableEntry, TableState};

/// Blocks of an executable that were read ahead of its whole table.
struct BlocksAhead {
    numbers: Range<u32>,
    /// By block, from the first of the numbers.
    slots: HashMap<u32, Option<Slot>>,
}

impl RowStore {
    /// Whether rows are being loaded.
    pub fn is_loading(&self) -> bool {
        self.loader.pending > 0
    }

    /// Adds the rows that the loader has read to the channels that a thread waits for.
    pub fn select_loaded<'a>(&'a self, channels: &mut Select<'a>) {
        channels.recv(&self.loader.results);
    }

    /// Publishes the next rows that the loader has read; waits up to `timeout` if it has none yet
    /// and files are pending. Returns the executable.
    pub fn take_loaded(
        &mut self,
        timeout: Duration,
        executables: &Executables,
    ) -> Option<ExecutableId> {
        let loaded = self.loader.receive(timeout)?;
        let id = loaded.executable;
        if executables.get(id).is_changed() {
            self.refuse_changed(id);
            return Some(id);
        }
        match loaded.rows {
            LoadedRows::Blocks { text_start, blocks } => self.add_blocks(id, text_start, &blocks),
            LoadedRows::WithPendingGaps(table) => self.add_all_blocks(id, table),
            LoadedRows::Large(layout) => self.divide_into_parts(id, layout),
            LoadedRows::Parts(parts) => self.add_parts(id, parts),
            LoadedRows::Table { frames, cost } => self.replace_with_table(id, frames, cost),
        }
        Some(id)
    }

    /// Publishes blocks that were read ahead of the whole table: requested ones, and the others of
    /// a file for which rows are derived.
    fn add_blocks(&mut self, id: ExecutableId, text_start: u64, blocks: &[(u32, Block)]) {
        for (number, block) in blocks {
            let is_requested = |entry: &&TableEntry| {
                entry.text_start == text_start
                    && matches!(&entry.state, TableState::Loading(blocks)
                        if matches!(blocks.get(number), None | Some(None)))
            };
            if self.entries.get(&id).filter(is_requested).is_none() {
                continue; // the whole table came first, or the file has changed
            }
            let Some(slot) = self.store(block) else { return };
            let Some(entry) = self.entries.get_mut(&id) else { return };
            entry.set_block(&self.slabs.maps, *number, &slot);
            if let TableState::Loading(requested) = &mut entry.state {
                requested.insert(*number, Some(slot));
            }
        }
    }

    /// Publishes the blocks of a table that will be replaced. It may have smaller blocks than those
    /// that were read ahead.
    fn add_all_blocks(&mut self, id: ExecutableId, table: Table) {
        let is_loading = |entry: &TableEntry| matches!(entry.state, TableState::Loading(_));
        let entry = self.entries.get(&id).filter(|entry| is_loading(entry));
        // Block numbers are never exchanged for those of larger blocks: the final table may have
        // smaller ones again.
        if entry.is_none_or(|entry| table.block_shift > entry.block_shift) {
            return;
        }
        if self.entries.get(&id).is_some_and(|entry| entry.block_shift != table.block_shift) {
            let Some(ahead) = self.take_blocks_ahead(id) else { return };
            let blocks = table.blocks.len() as u32;
            let fits = self.fit_numbers(id, table.start, table.block_shift, blocks);
            self.retire_ahead(id, ahead);
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.state = TableState::Loading(HashMap::new());
            }
            if !fits {
                return;
            }
        }
        let blocks = (0..).zip(table.blocks).filter(|(_, block)| !block.is_empty());
        let blocks: Vec<(u32, Block)> = blocks.collect();
        self.add_blocks(id, table.start, &blocks);
    }

    /// Prepares an executable for parts that are loaded when they are requested.
    fn divide_into_parts(&mut self, id: ExecutableId, layout: PartLayout) {
        let PartLayout { text_start, block_shift, parts } = layout;
        let Some(ahead) = self.take_blocks_ahead(id) else { return };
        if self.fit_numbers(id, text_start, block_shift, parts) {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.last_used = self.clock;
                entry.loaded = Some((Instant::now(), Duration::ZERO));
                entry.state = TableState::Parts { slots: HashMap::new(), rows: 0 };
            }
        } else {
            self.set_empty(id);
        }
        self.retire_ahead(id, ahead);
    }

    /// Publishes parts of a large file that were requested.
    fn add_parts(&mut self, id: ExecutableId, parts: Vec<(u32, Block, u64)>) {
        for (number, block, count) in parts {
            let is_requested = |entry: &TableEntry| {
                matches!(&entry.state, TableState::Parts { slots, .. }
                    if slots.get(&number) == Some(&None))
            };
            if !self.entries.get(&id).is_some_and(is_requested) {
                continue; // it was evicted meanwhile
            }
            let Some(slot) = self.store(&block) else {
                return self.refuse(id, Backoffs::refused);
            };
            let entry = self.entries.get_mut(&id).filter(|entry| is_requested(entry));
            let Some(entry) = entry else {
                self.slabs.retire(slot); // the file's other parts were evicted for this one
                continue;
            };
            entry.set_block(&self.slabs.maps, number, &slot);
            if let TableState::Parts { slots, rows } = &mut entry.state {
                slots.insert(number, Some(slot));
                *rows += count;
            }
        }
    }

    /// Publishes the whole table of an executable in place of the blocks that were read ahead.
    fn replace_with_table(
        &mut self,
        id: ExecutableId,
        frames: Option<Result<CallFrames, Error>>,
        cost: Duration,
    ) {
        let Some(ahead) = self.take_blocks_ahead(id) else { return };
        match frames {
            Some(Ok(frames)) => self.publish_table(id, &frames, cost),
            Some(Err(Error::NoCallFrames)) => self.set_empty(id),
            _ => {
                self.counts.unreadable += 1;
                self.set_empty(id);
            }
        }
        self.retire_ahead(id, ahead);
    }

    /// Takes the blocks of an executable that were read ahead, and its block numbers.
    fn take_blocks_ahead(&mut self, id: ExecutableId) -> Option<BlocksAhead> {
        let entry = self.entries.get_mut(&id)?;
        let numbers = entry.numbers.clone();
        let slots = match std::mem::replace(&mut entry.state, TableState::Unread) {
            TableState::Loading(blocks) => blocks,
            _ => HashMap::new(),
        };
        Some(BlocksAhead { numbers, slots })
    }

    /// Retires blocks that were read ahead, once others are published in their place.
    fn retire_ahead(&mut self, id: ExecutableId, ahead: BlocksAhead) {
        let BlocksAhead { numbers, slots } = ahead;
        let was_renumbered = self.entries.get(&id).is_some_and(|entry| entry.numbers != numbers);
        for (number, slot) in slots.into_iter().filter_map(|(n, slot)| Some((n, slot?))) {
            if was_renumbered {
                let _ = self.slabs.maps.set_block(numbers.start + number, BLOCK_MISSING);
            }
            self.slabs.retire(slot);
        }
    }

    fn publish_table(&mut self, id: ExecutableId, frames: &CallFrames, cost: Duration) {
        let table = &frames.table;
        self.counts.left_out += frames.omissions.total();
        let blocks = table.blocks.len() as u32;
        if !self.fit_numbers(id, table.start, table.block_shift, blocks) {
            return self.set_empty(id);
        }
        if table.bytes() as u64 > self.slabs.bytes_max() / 4 * 3 {
            return self.refuse(id, Backoffs::too_large); // evicting others would be in vain
        }
        let mut slots = Vec::with_capacity(table.blocks.len());
        for block in &table.blocks {
            match self.store(block) {
                Some(slot) => slots.push(slot),
                None => {
                    self.slabs.retire_all(slots);
                    return self.refuse(id, Backoffs::refused);
                }
            }
        }
        let Some(entry) = self.entries.get_mut(&id) else { return };
        for (block, slot) in (0..).zip(&slots) {
            entry.set_block(&self.slabs.maps, block, slot);
        }
        entry.last_used = self.clock;
        entry.loaded = Some((Instant::now(), cost));
        entry.state = TableState::Ready { slots, rows: table.rows };
    }

    /// Allocates the block numbers that a table needs: one with smaller blocks needs more, and
    /// every process that maps its executable must be published again. Returns whether the table
    /// matches the executable.
    fn fit_numbers(
        &mut self,
        id: ExecutableId,
        text_start: u64,
        block_shift: u32,
        blocks: u32,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        if block_shift != entry.block_shift {
            let Some(charge) = self.numbers_pool.charge(entry.owner, blocks.into()) else {
                return false;
            };
            let Some(numbers) = self.numbers.allocate(blocks) else { return false };
            entry.numbers_charge = Some(charge);
            entry.block_shift = block_shift;
            // Walks that still use the old numbers find no rows there and request them.
            entry.numbers_before = std::mem::replace(&mut entry.numbers, numbers);
            self.was_renumbered = true;
        }
        // Both come from the same program headers, unless the file has changed in between.
        text_start == entry.text_start && blocks as usize == entry.numbers.len()
    }

    /// Marks the table of a file that was overwritten as not loaded: its stacks are cut.
    pub(super) fn refuse_changed(&mut self, id: ExecutableId) {
        self.counts.unreadable += 1;
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let blocks = entry.set_all(&self.slabs.maps, abi::BLOCK_REFUSED, TableState::Refused);
        self.slabs.retire_all(blocks.into_slots());
    }

    pub(super) fn set_empty(&mut self, id: ExecutableId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.set_all(&self.slabs.maps, abi::BLOCK_EMPTY, TableState::Empty);
        }
    }

    /// Marks a table as not loaded because it does not fit; `back_off` decides when to retry.
    fn refuse(&mut self, id: ExecutableId, back_off: fn(&mut Backoffs, &ContentHash, Instant)) {
        self.counts.refused += 1;
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if let Some(hash) = entry.content {
            back_off(&mut self.backoffs, &hash, Instant::now());
        }
        let state = entry.set_all(&self.slabs.maps, abi::BLOCK_REFUSED, TableState::Refused);
        self.slabs.retire_all(state.into_slots());
    }
}
