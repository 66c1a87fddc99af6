//! Rows of executables: numbers for their blocks, from file to slab, and out again.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use profile::{ExecutableId, VirtAddr};
use unwind::{
    BLOCK_SHIFT_MAX, Block, CallFrames, Error, Rule, TEXT_MAX, Table, rule_in, table_start,
};

use super::backoff::{Backoffs, Hash};
use super::loader::{Wanted, What};
use super::{EMPTY_BLOCKS, EMPTY_SHIFT, EVICTED_PART, Entry, Found, REFUSED_BLOCKS, State, Tables};
use crate::kernel::{WalkMaps, abi};
use crate::processes::{AddressSpace, Executables};

impl Tables {
    /// Gives the entry of an executable; numbers its blocks when it is new.
    pub(super) fn entry(&mut self, id: ExecutableId, executables: &Executables) -> &mut Entry {
        let (numbers, counts, waits) = (&mut self.numbers, &mut self.counts, &self.backoffs);
        let maps = &self.slabs.maps;
        self.entries.entry(id).or_insert_with(|| {
            let executable = executables.get(id);
            let text = executable.file().and_then(|_| executable.text());
            let text = text.filter(|text| text.end - text.start <= TEXT_MAX);
            let start = text.as_ref().map_or(0, |text| table_start(text.start));
            let blocks = text.map_or(0, |text| (text.end - start).div_ceil(1 << BLOCK_SHIFT_MAX));
            let content = executable.content.map(|content| content.hash);
            let has_to_wait = content.is_some_and(|hash| waits.has_to_wait(&hash, Instant::now()));
            let (numbers, block_shift, state) = match (blocks, numbers.take(blocks as u32)) {
                (0, _) => (EMPTY_BLOCKS, EMPTY_SHIFT, State::Empty),
                (_, Some(numbers)) if has_to_wait => {
                    set_blocks(maps, &numbers, abi::BLOCK_REFUSED);
                    (numbers, BLOCK_SHIFT_MAX, State::Refused)
                }
                (_, Some(numbers)) => (numbers, BLOCK_SHIFT_MAX, State::Unread),
                (_, None) => (REFUSED_BLOCKS, EMPTY_SHIFT, State::Refused),
            };
            counts.refused += u64::from(numbers == REFUSED_BLOCKS);
            let start = if block_shift == EMPTY_SHIFT { 0 } else { start };
            let (numbers_before, used, read) = (0..0, 0, None);
            Entry { start, block_shift, numbers, numbers_before, state, used, content, read }
        })
    }

    /// Finds the rule for an address of a process.
    pub(super) fn find(
        &self,
        memory: &AddressSpace,
        executables: &Executables,
        at: VirtAddr,
    ) -> Found {
        let Some((mapping, offset)) = memory.find(at) else { return Found::NoMapping };
        let id = mapping.executable;
        let Some(entry) = self.entries.get(&id) else { return Found::Missing(id, 0) };
        let address = executables.get(id).address_of(offset, at).0;
        let into = address.wrapping_sub(entry.start);
        let number = (into >> entry.block_shift) as u32;
        let place = match &entry.state {
            State::Unread => return Found::Missing(id, number),
            State::Empty => return Found::Rule(Rule::NO_ROW),
            State::Refused => return Found::Refused,
            State::Reading(pieces) => match pieces.get(&number) {
                Some(Some(place)) => Some(place),
                _ => return Found::Missing(id, number),
            },
            State::Ready(places, _) => places.get(number as usize),
        };
        let in_block = (into & ((1 << entry.block_shift) - 1)) as u32;
        let block = place.filter(|place| !place.is_empty());
        let rule = block.map(|place| rule_in(self.slabs.maps.read(place.start), in_block));
        Found::Rule(rule.unwrap_or(Rule::NO_ROW))
    }

    /// Asks for the rows of an executable, and for some blocks before the others, once each. Says whether they are being read.
    pub fn request(&mut self, id: ExecutableId, blocks: &[u32], executables: &Executables) -> bool {
        let entry = self.entry(id, executables);
        let is_new = matches!(entry.state, State::Unread);
        if is_new {
            entry.state = State::Reading(HashMap::new());
        }
        let State::Reading(asked) = &mut entry.state else { return false };
        let is_unasked = |block: &u32| !asked.contains_key(block);
        let blocks: Vec<u32> = blocks.iter().copied().filter(is_unasked).collect();
        if blocks.is_empty() && !is_new {
            return true;
        }
        match executables.get(id).file().and_then(|file| file.try_clone().ok()) {
            Some(file) => {
                asked.extend(blocks.iter().map(|block| (*block, None)));
                let content = executables.get(id).content;
                self.loader.request(Wanted { executable: id, file, content, blocks, is_new });
            }
            None if is_new => {
                self.set_empty(id);
                return false;
            }
            None => {}
        }
        true
    }

    /// Whether rows are being read.
    pub fn is_loading(&self) -> bool {
        self.loader.waiting > 0
    }

    /// Takes rows that have been read into the kernel. Backoffs so long if there is something to wait for;
    /// says whose rows they are.
    pub fn take_loaded(&mut self, patience: Duration) -> Option<ExecutableId> {
        let loaded = self.loader.take(patience)?;
        let id = loaded.executable;
        match loaded.what {
            What::Blocks(start, blocks) => self.take_blocks(id, start, &blocks),
            What::Whole(frames, cost) => self.take_whole(id, frames, cost),
        }
        Some(id)
    }

    /// Takes blocks that were read before the rest.
    fn take_blocks(&mut self, id: ExecutableId, start: u64, blocks: &[(u32, Block)]) {
        for (number, block) in blocks {
            let is_waited_for = |entry: &&Entry| {
                entry.start == start
                    && matches!(&entry.state, State::Reading(asked) if asked.get(number) == Some(&None))
            };
            if self.entries.get(&id).filter(is_waited_for).is_none() {
                continue; // the whole was quicker, or the file has changed
            }
            let Some(place) = self.store(block) else { return };
            let Some(entry) = self.entries.get_mut(&id) else { return };
            if let State::Reading(known) = &mut entry.state {
                set_block(&self.slabs.maps, &entry.numbers, *number, &place);
                known.insert(*number, Some(place));
            }
        }
    }

    /// Takes all of a file's rows, in place of the blocks that there were.
    fn take_whole(
        &mut self,
        id: ExecutableId,
        frames: Option<Result<CallFrames, Error>>,
        cost: Duration,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let numbers = entry.numbers.clone();
        let pieces = match std::mem::replace(&mut entry.state, State::Unread) {
            State::Reading(pieces) => pieces,
            _ => HashMap::new(),
        };
        match frames {
            Some(Ok(frames)) => self.take_frames(id, &frames, cost),
            Some(Err(Error::NoCallFrames)) => self.set_empty(id),
            _ => {
                self.counts.unreadable += 1;
                self.set_empty(id);
            }
        }
        let has_moved = self.entries.get(&id).is_some_and(|entry| entry.numbers != numbers);
        for (number, place) in pieces.into_iter().filter_map(|(n, place)| Some((n, place?))) {
            if has_moved {
                let _ = self.slabs.maps.set_block(numbers.start + number, 0);
            }
            self.slabs.retire(place);
        }
    }

    fn take_frames(&mut self, id: ExecutableId, frames: &CallFrames, cost: Duration) {
        let table = &frames.table;
        self.counts.left_out += frames.omissions.total();
        if !self.fit_numbers(id, table) {
            return self.set_empty(id);
        }
        if table.bytes() as u64 > self.slabs.bytes_max() / 4 * 3 {
            return self.refuse(id, Backoffs::too_large); // and pushes nobody out for nothing
        }
        let mut places = Vec::with_capacity(table.blocks.len());
        for block in &table.blocks {
            match self.store(block) {
                Some(place) => places.push(place),
                None => {
                    self.slabs.retire_all(places);
                    return self.refuse(id, Backoffs::refused);
                }
            }
        }
        let Some(entry) = self.entries.get_mut(&id) else { return };
        for (number, place) in (0..).zip(&places) {
            set_block(&self.slabs.maps, &entry.numbers, number, place);
        }
        entry.used = self.clock;
        entry.read = Some((Instant::now(), cost));
        entry.state = State::Ready(places, table.rows);
    }

    /// Makes the executable's numbers those that the table needs: a table with smaller blocks has more
    /// of them, and every process that maps it must learn the new ones.
    fn fit_numbers(&mut self, id: ExecutableId, table: &Table) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        if table.block_shift != entry.block_shift {
            let Some(numbers) = self.numbers.take(table.blocks.len() as u32) else { return false };
            entry.block_shift = table.block_shift;
            // Walks that go by the old ones find nothing there and ask.
            entry.numbers_before = std::mem::replace(&mut entry.numbers, numbers);
            self.stale.extend(&self.wanted);
        }
        // Both come from the same program headers, unless the file has changed in between.
        table.start == entry.start && table.blocks.len() == entry.numbers.len()
    }

    fn set_empty(&mut self, id: ExecutableId) {
        self.set_all_blocks(id, abi::BLOCK_EMPTY, State::Empty);
    }

    /// Has no room for an executable's rows. `wait`: tells for how long.
    fn refuse(&mut self, id: ExecutableId, wait: fn(&mut Backoffs, &Hash, Instant)) {
        self.counts.refused += 1;
        if let Some(hash) = self.entries.get(&id).and_then(|entry| entry.content) {
            wait(&mut self.backoffs, &hash, Instant::now());
        }
        self.set_all_blocks(id, abi::BLOCK_REFUSED, State::Refused);
    }

    /// Lets those that have waited long enough be asked for again.
    pub fn end_waits(&mut self) {
        let now = Instant::now();
        self.backoffs.tidy(now);
        for entry in self.entries.values_mut() {
            let has_waited =
                entry.content.is_some_and(|hash| !self.backoffs.has_to_wait(&hash, now));
            let is_refused = matches!(entry.state, State::Refused);
            if is_refused && has_waited && entry.numbers != REFUSED_BLOCKS {
                set_blocks(&self.slabs.maps, &entry.numbers, 0);
                entry.state = State::Unread;
            }
        }
    }

    /// Makes all blocks of an executable say the same.
    fn set_all_blocks(&mut self, id: ExecutableId, place: u32, state: State) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        set_blocks(&self.slabs.maps, &entry.numbers, place);
        entry.state = state;
    }

    /// Forgets executables that nothing maps: gives back their rows and the numbers of their blocks.
    pub fn forget_executables(&mut self, gone: &[ExecutableId]) {
        let entries: Vec<Entry> = gone.iter().filter_map(|id| self.entries.remove(id)).collect();
        let mut numbers: Vec<Range<u32>> = Vec::new();
        for entry in entries.into_iter().filter(|entry| entry.block_shift != EMPTY_SHIFT) {
            set_blocks(&self.slabs.maps, &entry.numbers, 0);
            match entry.state {
                State::Ready(places, _) => self.slabs.retire_all(places),
                State::Reading(pieces) => self.slabs.retire_all(pieces.into_values().flatten()),
                State::Unread | State::Empty | State::Refused => {}
            }
            numbers.extend([entry.numbers, entry.numbers_before]);
        }
        if numbers.is_empty() {
            return;
        }
        self.slabs.reuse_retired();
        numbers.into_iter().for_each(|numbers| self.numbers.give(numbers));
        // Those that there were no numbers for may have some now.
        self.entries.retain(|_, entry| entry.numbers != REFUSED_BLOCKS);
        self.stale.extend(&self.wanted);
    }

    /// Stores bytes in a slab, in the place of what was not used for longest if need be; `None` when there is no room.
    pub(super) fn store(&mut self, bytes: &[u8]) -> Option<Range<u32>> {
        loop {
            if let Some(place) = self.slabs.store(bytes) {
                return Some(place);
            }
            if bytes.len() > abi::SLAB_BYTES || !self.evict() {
                return None;
            }
        }
    }

    /// Withdraws the rows that were not used for longest; says whether there were any.
    fn evict(&mut self) -> bool {
        let mut oldest: Vec<(u64, ExecutableId)> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.state, State::Ready(..)))
            .map(|(id, entry)| (entry.used, *id))
            .collect();
        oldest.sort_unstable();
        let enough = self.slabs.units_max() / EVICTED_PART;
        let (mut freed, mut is_any, now) = (0, false, Instant::now());
        for (_, id) in oldest {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            // Before the first sample nobody knows what is of use.
            let known = entry.content.zip(entry.read).filter(|_| self.clock > 0);
            let waits = known.is_some_and(|(hash, (since, cost))| {
                self.backoffs.pushed_out(&hash, cost, since, now)
            });
            let (place, state) =
                if waits { (abi::BLOCK_REFUSED, State::Refused) } else { (0, State::Unread) };
            set_blocks(&self.slabs.maps, &entry.numbers, place);
            if let State::Ready(places, _) = std::mem::replace(&mut entry.state, state) {
                freed += places.iter().map(|place| u64::from(place.end - place.start)).sum::<u64>();
                self.slabs.retire_all(places);
            }
            self.counts.evicted += 1;
            is_any = true;
            if freed >= enough {
                break;
            }
        }
        is_any
    }
}

/// Makes all blocks with these numbers say the same.
fn set_blocks(maps: &WalkMaps, numbers: &Range<u32>, place: u32) {
    for number in numbers.clone() {
        let _ = maps.set_block(number, place); // the number is within the map
    }
}

/// Publishes where one of an executable's blocks is.
fn set_block(maps: &WalkMaps, numbers: &Range<u32>, number: u32, place: &Range<u32>) {
    let place = if place.is_empty() { abi::BLOCK_EMPTY } else { place.start };
    if number < numbers.end - numbers.start {
        let _ = maps.set_block(numbers.start + number, place); // the number is within the map
    }
}
