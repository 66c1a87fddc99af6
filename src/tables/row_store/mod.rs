//! The row store: unwind rows of executables in slabs, loaded on request, evicted by last use.
//!
//! Rows are published in this order: first the bytes, then the block number that leads to them.
//! Withdrawal goes the other way round.

mod eviction;
mod loading;

use std::collections::HashMap;
use std::io;
use std::time::Instant;

use indexmap::IndexSet;
use profile::{ExecutableId, Pid, VirtAddr};
use unwind::{BLOCK_SHIFT_MAX, Rule, TEXT_MAX, rule_in, table_start};

use super::backoff::Backoffs;
use super::cache::Cache;
use super::counts::TableCounts;
use super::deriver::RowSource;
use super::load_request::{LoadExtent, LoadRequest, LoadingCanceller};
use super::loader::Loader;
use super::row_limits::RowLimits;
use super::slabs::Slabs;
use super::slots::{Slot, SlotAllocator};
use super::table_entry::{
    EMPTY_BLOCKS, EMPTY_SHIFT, REFUSED_BLOCKS, TableEntry, TableState, set_blocks,
};
use crate::kernel::{WalkMaps, abi};
use crate::limits::{SharedPool, SharedRate};
use crate::processes::{AddressSpace, Executables};
use crate::workers::Usage;

/// Parts of a large file that are requested at once: deriving the rows of each takes some
/// milliseconds.
const PARTS_AT_ONCE: usize = 32;

/// What the store knows about the rule for an address.
pub(super) enum RuleLookup {
    Rule(Rule),
    /// The rows of this block of an executable's text are not loaded.
    Missing(ExecutableId, u32),
    /// This block has no row for the address; one may be derived later.
    Pending(ExecutableId, u32),
    /// The rows do not fit, or are in backoff.
    Refused,
    NoMapping,
}

/// The unwind tables of one session.
pub struct RowStore {
    slabs: Slabs,
    /// Free block numbers.
    numbers: SlotAllocator,
    /// Block numbers by owner: a file of a few bytes may claim a gigabyte of code.
    numbers_pool: SharedPool,
    entries: HashMap<ExecutableId, TableEntry>,
    loader: Loader,
    backoffs: Backoffs,
    /// Counts delivered samples; eviction goes by the last use on this clock.
    clock: u64,
    /// Some executable got other block numbers since mappings were last published.
    was_renumbered: bool,
    counts: TableCounts,
}

impl RowStore {
    /// Starts without rows. `program`: runs as the deriver. `cache`: tables of earlier runs.
    /// `source`: of rows.
    ///
    /// # Errors
    /// When the loader thread cannot be started or the reserved blocks cannot be written.
    pub fn new(
        program: &str,
        maps: WalkMaps,
        limits: RowLimits,
        cache: Option<Cache>,
        source: RowSource,
    ) -> io::Result<Self> {
        for number in EMPTY_BLOCKS {
            maps.set_block(number, abi::BLOCK_EMPTY)?;
        }
        for number in REFUSED_BLOCKS {
            maps.set_block(number, abi::BLOCK_REFUSED)?;
        }
        let mut numbers = SlotAllocator::new(u32::MAX);
        numbers.release(REFUSED_BLOCKS.end..abi::BLOCKS_MAX);
        Ok(Self {
            slabs: Slabs::new(maps, limits.slabs),
            numbers,
            numbers_pool: SharedPool::new(u64::from(abi::BLOCKS_MAX - REFUSED_BLOCKS.end)),
            entries: HashMap::new(),
            loader: Loader::spawn(program, cache, limits, source)?,
            backoffs: Backoffs::default(),
            clock: 0,
            was_renumbered: false,
            counts: TableCounts::default(),
        })
    }

    /// Returns the CPU seconds per second that reading tables may take; unlimited until it is set.
    pub fn cpu_rate(&self) -> SharedRate {
        self.loader.cpu_rate()
    }

    /// Returns what ends reading tables.
    pub fn loading_canceller(&self) -> LoadingCanceller {
        self.loader.canceller()
    }

    /// Returns what derivers have used so far.
    pub fn deriver_usage(&self) -> Usage {
        self.loader.deriver_usage()
    }

    /// Returns the counts of loading and eviction, and what is in the kernel now.
    pub fn counts(&self) -> TableCounts {
        let (slab_bytes, cache) = (self.slabs.bytes(), self.loader.cache_counts());
        let mut counts = TableCounts { slab_bytes, cache, ..self.counts };
        for entry in self.entries.values() {
            match &entry.state {
                TableState::Ready { rows, .. } | TableState::Parts { rows, .. } => {
                    counts.tables += 1;
                    counts.rows += rows;
                }
                TableState::Refused => counts.in_backoff += 1,
                _ => {}
            }
        }
        counts
    }

    /// Marks the executables of a delivered stack as used last.
    pub fn mark_used(&mut self, executables: impl Iterator<Item = ExecutableId>) {
        self.clock += 1;
        let mut last = None;
        for id in executables.filter(|id| last.replace(*id) != Some(*id)) {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.last_used = self.clock;
            }
        }
    }

    /// Returns the rule for an address of a process, `None` while it is not loaded.
    pub fn rule_at(
        &self,
        memory: &AddressSpace,
        executables: &Executables,
        address: VirtAddr,
    ) -> Option<Rule> {
        match self.lookup_rule(memory, executables, address) {
            RuleLookup::Rule(rule) => Some(rule),
            _ => None,
        }
    }

    /// Returns whether the row of an address of a process is not loaded, and may be later.
    pub fn is_missing(
        &self,
        memory: &AddressSpace,
        executables: &Executables,
        address: VirtAddr,
    ) -> bool {
        let lookup = self.lookup_rule(memory, executables, address);
        matches!(lookup, RuleLookup::Missing(..) | RuleLookup::Pending(..))
    }

    /// Looks up the rule for an address of a process, as the kernel would.
    pub(super) fn lookup_rule(
        &self,
        memory: &AddressSpace,
        executables: &Executables,
        address: VirtAddr,
    ) -> RuleLookup {
        let Some((mapping, offset)) = memory.find(address) else { return RuleLookup::NoMapping };
        let id = mapping.executable;
        let Some(entry) = self.entries.get(&id) else { return RuleLookup::Missing(id, 0) };
        let file_address = executables.get(id).address_of(offset, address).0;
        let into_text = file_address.wrapping_sub(entry.text_start);
        let block = (into_text >> entry.block_shift) as u32;
        let slot = match &entry.state {
            TableState::Unread => return RuleLookup::Missing(id, block),
            TableState::Empty => return RuleLookup::Rule(Rule::NO_ROW),
            TableState::Refused => return RuleLookup::Refused,
            TableState::Loading(slots) => match slots.get(&block) {
                Some(Some(slot)) => Some(slot),
                // All blocks with rows are there once they are smaller than those read ahead.
                _ if entry.block_shift < BLOCK_SHIFT_MAX => return RuleLookup::Pending(id, block),
                _ => return RuleLookup::Missing(id, block),
            },
            TableState::Parts { slots, .. } => match slots.get(&block) {
                Some(Some(slot)) => Some(slot),
                _ => return RuleLookup::Pending(id, block),
            },
            TableState::Ready { slots, .. } => slots.get(block as usize),
        };
        let into_block = (into_text & ((1 << entry.block_shift) - 1)) as u32;
        let slot = slot.filter(|slot| !slot.is_empty());
        match slot.map(|slot| rule_in(self.slabs.maps.read(slot.start), into_block)) {
            Some(Rule::PENDING) => RuleLookup::Pending(id, block),
            rule => RuleLookup::Rule(rule.unwrap_or(Rule::NO_ROW)),
        }
    }

    /// Returns whether the address space of a process may be another one since a time: the programs
    /// saw a fork or an exec, or there are no programs.
    pub fn may_be_replaced_since(&self, pid: Pid, time: u64) -> bool {
        self.slabs.maps.generation(pid.0) > time || !self.slabs.maps.has_programs()
    }

    /// Whether the kernel finds rows of something that is mapped.
    pub(super) fn has_rows_of(&self, memory: &AddressSpace) -> bool {
        memory
            .iter()
            .any(|mapping| self.entries.get(&mapping.executable).is_some_and(TableEntry::has_rows))
    }

    /// Returns the entry of an executable; numbers its blocks on first use.
    pub(super) fn entry(&mut self, id: ExecutableId, executables: &Executables) -> &TableEntry {
        self.entry_mut(id, executables)
    }

    fn entry_mut(&mut self, id: ExecutableId, executables: &Executables) -> &mut TableEntry {
        let Self { numbers, numbers_pool, backoffs, counts, slabs, .. } = self;
        self.entries.entry(id).or_insert_with(|| {
            let executable = executables.get(id);
            let text = executable.file().and_then(|_| executable.text());
            let text = text.filter(|text| text.end - text.start <= TEXT_MAX);
            let text_start = text.as_ref().map_or(0, |text| table_start(text.start));
            let blocks =
                text.map_or(0, |text| (text.end - text_start).div_ceil(1 << BLOCK_SHIFT_MAX));
            let content = executable.content.map(|content| content.hash);
            let is_in_backoff =
                content.is_some_and(|hash| backoffs.contains(&hash, Instant::now()));
            let owner = executables.owner(id);
            let charge = numbers_pool.charge(owner, blocks);
            let allocated = charge.as_ref().and_then(|_| numbers.allocate(blocks as u32));
            let (numbers, block_shift, state) = match (blocks, allocated) {
                (0, _) => (EMPTY_BLOCKS, EMPTY_SHIFT, TableState::Empty),
                (_, Some(numbers)) if is_in_backoff => {
                    set_blocks(&slabs.maps, &numbers, abi::BLOCK_REFUSED);
                    (numbers, BLOCK_SHIFT_MAX, TableState::Refused)
                }
                (_, Some(numbers)) => (numbers, BLOCK_SHIFT_MAX, TableState::Unread),
                (_, None) => (REFUSED_BLOCKS, EMPTY_SHIFT, TableState::Refused),
            };
            counts.refused += u64::from(numbers == REFUSED_BLOCKS);
            TableEntry {
                text_start: if block_shift == EMPTY_SHIFT { 0 } else { text_start },
                block_shift,
                numbers,
                numbers_before: 0..0,
                state,
                last_used: 0,
                owner,
                numbers_charge: charge,
                content,
                loaded: None,
            }
        })
    }

    /// Requests the rows of an executable, `blocks` before the others; each block at most once.
    /// Returns whether the rows are being loaded.
    pub fn request(&mut self, id: ExecutableId, blocks: &[u32], executables: &Executables) -> bool {
        let entry = self.entry_mut(id, executables);
        let is_new = matches!(entry.state, TableState::Unread);
        if is_new && executables.get(id).is_changed() {
            self.refuse_changed(id);
            return false;
        }
        if is_new {
            entry.state = TableState::Loading(HashMap::new());
        }
        // Of a whole file, only blocks of the largest size are read ahead.
        let (extent, blocks_max) = match (&entry.state, entry.block_shift) {
            (TableState::Parts { .. }, _) => (LoadExtent::Parts, PARTS_AT_ONCE),
            (_, BLOCK_SHIFT_MAX) => (LoadExtent::of_whole_file(is_new), usize::MAX),
            _ => (LoadExtent::of_whole_file(is_new), 0),
        };
        let Some(requested) = entry.state.requested() else { return false };
        let is_new_block = |block: &u32| !requested.contains_key(block);
        let blocks: IndexSet<u32> = blocks.iter().copied().filter(is_new_block).collect();
        let blocks: Vec<u32> = blocks.into_iter().take(blocks_max).collect();
        if blocks.is_empty() && !is_new {
            return true;
        }
        match executables.get(id).file().and_then(|file| file.try_clone().ok()) {
            Some(file) => {
                requested.extend(blocks.iter().map(|block| (*block, None)));
                let content = executables.get(id).content;
                let owner = executables.owner(id);
                let request = LoadRequest { executable: id, owner, file, content, blocks, extent };
                self.loader.request(request);
            }
            None if is_new => {
                self.set_empty(id);
                return false;
            }
            None => {}
        }
        true
    }

    /// Requests the rows of everything that is mapped.
    pub fn request_mapped(&mut self, memory: &AddressSpace, executables: &Executables) {
        for mapping in memory.iter() {
            self.request(mapping.executable, &[], executables);
        }
    }

    /// Returns whether published mappings refer to outdated block numbers since the last call.
    pub(super) fn take_renumbered(&mut self) -> bool {
        std::mem::take(&mut self.was_renumbered)
    }

    /// Retires slots of [`Self::store`] that nothing refers to any more.
    pub(super) fn retire(&mut self, slots: impl IntoIterator<Item = Slot>) {
        self.slabs.retire_all(slots);
    }

    /// Returns the maps that walks in the kernel read.
    pub(super) fn maps(&self) -> &WalkMaps {
        &self.slabs.maps
    }
}
