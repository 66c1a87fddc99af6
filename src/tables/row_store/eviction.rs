//! Evicts the rows used least recently, and frees those of executables that are gone.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;
use std::time::Instant;

use profile::ExecutableId;

use super::RowStore;
use crate::kernel::abi;
use crate::limits::Owner;
use crate::tables::slots::Slot;
use crate::tables::table_entry::{BLOCK_MISSING, REFUSED_BLOCKS, TableEntry, TableState};

/// When the limit is reached, the limit divided by this is freed at once.
const EVICTED_DIVISOR: u64 = 16;

impl RowStore {
    /// Lets tables whose backoff has ended be requested again.
    pub fn expire_backoffs(&mut self) {
        let now = Instant::now();
        self.backoffs.forget_expired(now);
        for entry in self.entries.values_mut() {
            let has_expired = entry.content.is_some_and(|hash| !self.backoffs.contains(&hash, now));
            let is_refused = matches!(entry.state, TableState::Refused);
            if is_refused && has_expired && entry.numbers != REFUSED_BLOCKS {
                entry.set_all(&self.slabs.maps, BLOCK_MISSING, TableState::Unread);
            }
        }
    }

    /// Forgets executables that no process maps; frees their rows and block numbers.
    pub fn forget_executables(&mut self, gone: &[ExecutableId]) {
        self.slabs.remove_empty(); // of what was forgotten before
        let entries = gone.iter().filter_map(|id| self.entries.remove(id));
        let mut numbers: Vec<Range<u32>> = Vec::new();
        for mut entry in entries.filter(TableEntry::is_numbered) {
            let state = entry.set_all(&self.slabs.maps, BLOCK_MISSING, TableState::Unread);
            self.slabs.retire_all(state.into_slots());
            numbers.extend([entry.numbers, entry.numbers_before]);
        }
        if numbers.is_empty() {
            return;
        }
        self.slabs.free_retired();
        numbers.into_iter().for_each(|numbers| self.numbers.release(numbers));
        // Executables that got no block numbers may get some now.
        self.entries.retain(|_, entry| entry.numbers != REFUSED_BLOCKS);
        self.was_renumbered = true;
    }

    /// Stores bytes in a slab, and evicts tables for them if necessary; `None` when they do not
    /// fit.
    pub(in crate::tables) fn store(&mut self, bytes: &[u8]) -> Option<Slot> {
        loop {
            if let Some(slot) = self.slabs.store(bytes) {
                return Some(slot);
            }
            if bytes.len() > abi::SLAB_BYTES || !self.evict_least_recently_used() {
                return None;
            }
        }
    }

    /// Evicts tables until a part of the budget is free: always of the owner that holds the most,
    /// the one used least recently. So an owner with few tables keeps them, whatever others load.
    /// Returns whether there were any.
    fn evict_least_recently_used(&mut self) -> bool {
        let mut by_owner: HashMap<Owner, OwnerTables> = HashMap::new();
        for (id, entry) in &self.entries {
            if matches!(entry.state, TableState::Ready { .. } | TableState::Parts { .. }) {
                let tables = by_owner.entry(entry.owner).or_default();
                tables.units += entry.units();
                tables.queue.push(Reverse((entry.last_used, *id)));
            }
        }
        let enough = self.slabs.units_max() / EVICTED_DIVISOR;
        let (mut freed, mut evicted, now) = (0, 0, Instant::now());
        while freed < enough
            && let Some(tables) = by_owner.values_mut().max_by_key(|tables| tables.units)
            && let Some(Reverse((_, id))) = tables.queue.pop()
        {
            let units = self.evict(id, now);
            tables.units = tables.units.saturating_sub(units);
            freed += units;
            evicted += 1;
        }
        self.counts.evicted += evicted;
        evicted > 0
    }

    /// Evicts a table. Returns the units that it occupied.
    fn evict(&mut self, id: ExecutableId, now: Instant) -> u64 {
        let Some(entry) = self.entries.get_mut(&id) else { return 0 };
        // Before the first sample it is unknown what is of use, so nothing backs off.
        let loaded = entry.content.zip(entry.loaded).filter(|_| self.clock > 0);
        let is_in_backoff = loaded
            .is_some_and(|(hash, (since, cost))| self.backoffs.evicted(&hash, cost, since, now));
        let (value, state) = match is_in_backoff {
            true => (abi::BLOCK_REFUSED, TableState::Refused),
            false => (BLOCK_MISSING, TableState::Unread),
        };
        let units = entry.units();
        let slots = entry.set_all(&self.slabs.maps, value, state).into_slots();
        self.slabs.retire_all(slots);
        units
    }
}

/// The tables of one owner that can be evicted, the one used least recently first.
#[derive(Default)]
struct OwnerTables {
    units: u64,
    queue: BinaryHeap<Reverse<(u64, ExecutableId)>>,
}
