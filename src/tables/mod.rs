//! Station 3: what walks in the kernel go by, within a budget of bytes.
//!
//! [`Tables`] puts mappings of processes and rows of executables into the kernel's slabs. Nothing is
//! there before it is needed: a tick that finds nothing takes its stack along, [`Tables::walk`] finishes
//! it here with the same rows, and from then on the kernel has them.
//!
//! Publication: first the bytes, then what points to them. Withdrawal goes the other way round, and a
//! place is used again only after every tick that may look at it has ended.

mod cache;
mod loader;
mod places;
mod published;
mod walk;

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::time::Duration;

use profile::{ExecutableId, FileOffset, Pid, StackEnd, VirtAddr};
use unwind::{
    BLOCK_SHIFT_MAX, Block, CallFrames, Error, Rule, TEXT_MAX, Table, rule_in, table_start,
};
use zerocopy::IntoBytes;

use crate::events::{RawSample, now};
use crate::kernel::{WalkMaps, abi};
use crate::processes::{Executables, Mapping, Memory, Processes};
pub use cache::{Cache, CacheCounts, CacheError};
use loader::{Loader, Wanted, What};
use places::Places;
use published::Published;
pub use walk::Walked;

const UNIT: usize = 8;
const SLAB_UNITS: u32 = (abi::SLAB_BYTES / UNIT) as u32;
/// The first numbers stay empty blocks: mappings without rows point there, the largest with all of them.
const EMPTY_BLOCKS: Range<u32> = 1..64;
/// The next ones are those of executables for whose blocks there are no numbers left.
const REFUSED_BLOCKS: Range<u32> = 64..127;
const EMPTY_SHIFT: u32 = 31;
/// Share of the budget that is freed at once when it is used up.
const EVICTED_PART: u64 = 16;

/// What there is, for summaries and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounts {
    /// Executables with rows in the kernel.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// Rows that files have and tables have not.
    pub left_out: u64,
    /// Tables that made room for others.
    pub evicted: u64,
    /// Tables that found no room.
    pub refused: u64,
    /// Files that could not be read.
    pub unreadable: u64,
    /// What came of the cache, if there is one.
    pub cache: CacheCounts,
}

/// What is known of an executable's rows.
#[derive(Debug)]
struct Entry {
    /// First address of its text.
    start: u64,
    block_shift: u32,
    /// Numbers of its blocks in the kernel.
    numbers: Range<u32>,
    /// Those that it had first, which processes may still go by.
    numbers_before: Range<u32>,
    state: State,
    /// When a frame of it was last delivered, by our own clock of samples.
    used: u64,
}

#[derive(Debug)]
enum State {
    /// Nobody asked yet.
    Unread,
    /// The loader has it. Places of the blocks that were read before, by number; `None`: asked for.
    Reading(HashMap<u32, Option<Range<u32>>>),
    /// In the kernel: place of each block, and rows of all.
    Ready(Vec<Range<u32>>, u64),
    /// It has no rows.
    Empty,
    /// There is no room for it.
    Refused,
}

/// What to know about the rule for an address.
enum Found {
    Rule(Rule),
    /// The rows of this block of an executable's text are not there yet.
    Missing(ExecutableId, u32),
    /// There is no room for the rows.
    Refused,
    NoMapping,
}

/// The tables of one session.
pub struct Tables {
    maps: WalkMaps,
    places: Places,
    numbers: Places,
    slabs_max: u32,
    retired: Vec<Range<u32>>,
    entries: HashMap<ExecutableId, Entry>,
    processes: HashMap<Pid, Published>,
    /// Processes that were sampled: their mappings are kept in the kernel.
    wanted: HashSet<Pid>,
    /// Wanted processes whose mappings there are not the latest.
    stale: HashSet<Pid>,
    loader: Loader,
    clock: u64,
    counts: TableCounts,
}

impl Tables {
    /// Has nothing in the kernel yet. `bytes_max`: what slabs may take. `cache`: where tables of earlier runs are.
    ///
    /// # Errors
    /// When the loader's thread cannot be started or the first blocks not be written.
    pub fn new(maps: WalkMaps, bytes_max: u64, cache: Option<Cache>) -> io::Result<Self> {
        for number in EMPTY_BLOCKS {
            maps.set_block(number, abi::BLOCK_EMPTY)?;
        }
        for number in REFUSED_BLOCKS {
            maps.set_block(number, abi::BLOCK_REFUSED)?;
        }
        let mut numbers = Places::new(u32::MAX);
        numbers.give(REFUSED_BLOCKS.end..abi::BLOCKS_MAX);
        let slabs_max = (bytes_max / abi::SLAB_BYTES as u64).clamp(1, abi::SLABS_MAX.into()) as u32;
        Ok(Self {
            maps,
            places: Places::new(SLAB_UNITS),
            numbers,
            slabs_max,
            retired: Vec::new(),
            entries: HashMap::new(),
            processes: HashMap::new(),
            wanted: HashSet::new(),
            stale: HashSet::new(),
            loader: Loader::spawn(cache)?,
            clock: 0,
            counts: TableCounts::default(),
        })
    }

    /// What there is.
    pub fn counts(&self) -> TableCounts {
        let mut counts = TableCounts { cache: self.loader.cached(), ..self.counts };
        for entry in self.entries.values() {
            if let State::Ready(_, rows) = &entry.state {
                counts.tables += 1;
                counts.rows += rows;
            }
        }
        counts
    }

    /// Keeps a process's mappings in the kernel from now on.
    pub fn want(&mut self, pid: Pid) {
        if self.wanted.insert(pid) {
            self.stale.insert(pid);
        }
    }

    /// Learns that the mappings of all processes are in doubt: the kernel goes by none before they are published anew.
    pub fn distrust(&mut self) {
        self.stale.extend(self.processes.keys());
    }

    /// Learns which executables a delivered stack has frames in: what is not used goes first.
    pub fn used(&mut self, executables: impl Iterator<Item = ExecutableId>) {
        self.clock += 1;
        let mut last = None;
        for id in executables.filter(|id| last.replace(*id) != Some(*id)) {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.used = self.clock;
            }
        }
    }

    /// Brings the mappings of wanted processes up to date. `known`: process events up to this time, in
    /// nanoseconds of CLOCK_MONOTONIC, are in `processes`.
    pub fn publish(&mut self, processes: &mut Processes, known: u64) {
        for pid in processes.take_changed() {
            // A new process of a program that has been sampled before will be sampled, too.
            if !self.wanted.contains(&pid) && self.has_rows(&processes.memory(pid)) {
                self.wanted.insert(pid);
            }
            if self.wanted.contains(&pid) {
                self.stale.insert(pid);
            }
            if let Some(published) = self.processes.get_mut(&pid) {
                published.change(now());
            }
        }
        for pid in std::mem::take(&mut self.stale) {
            if !processes.knows(pid) {
                self.wanted.remove(&pid);
                self.withdraw(pid);
                if !processes.has(pid) {
                    self.processes.remove(&pid);
                }
                continue;
            }
            if self.processes.get(&pid).is_some_and(|published| !published.is_settled(now())) {
                self.withdraw(pid);
                self.stale.insert(pid);
                continue;
            }
            let stamp = self.maps.stamp(pid.0);
            if stamp > known || self.processes.get(&pid).is_some_and(|p| p.is_fresh(now())) {
                self.stale.insert(pid); // it has other memory by now, of which we do not know yet
                continue;
            }
            let memory = processes.memory(pid);
            let bytes = self.mappings(pid, stamp, &memory, &processes.executables);
            let Some(place) = self.store(&bytes) else {
                self.withdraw(pid);
                continue;
            };
            if self.maps.set_process(pid.0, place.start).is_err() {
                self.retired.push(place); // too many processes: its ticks are finished here
                continue;
            }
            let published = self.processes.entry(pid).or_default();
            let replaced = published.replace(place, memory, now(), known);
            self.retired.extend(replaced);
        }
    }

    /// Cuts the stack of a sample where the kernel walked by mappings that were not those of its time. `memory`: what was
    /// mapped then.
    pub fn cut_unsure(&mut self, time: u64, sample: &mut RawSample, memory: &Memory) {
        let Some(published) = self.processes.get_mut(&sample.pid) else { return };
        let walked_by = published.at(time);
        let sure = walked_by.and_then(|by| published::sure_frames(sample, by, memory));
        if let Some(sure) = sure {
            published.unsettle(now());
            self.stale.insert(sample.pid);
            sample.user = sample.user[..sure].into();
            (sample.user_end, sample.rest) = (StackEnd::NoTable, None);
        }
    }

    /// Gives the executables that walks may still look for.
    pub fn mapped(&self) -> impl Iterator<Item = ExecutableId> {
        let mappings = self.processes.values().flat_map(Published::mappings);
        mappings.map(|mapping| mapping.executable)
    }

    /// Forgets executables that nothing maps: gives back their rows and the numbers of their blocks.
    pub fn forget_executables(&mut self, gone: &[ExecutableId]) {
        let entries: Vec<Entry> = gone.iter().filter_map(|id| self.entries.remove(id)).collect();
        let mut numbers: Vec<Range<u32>> = Vec::new();
        for entry in entries.into_iter().filter(|entry| entry.block_shift != EMPTY_SHIFT) {
            for number in entry.numbers.clone() {
                let _ = self.maps.set_block(number, 0); // the number is within the map
            }
            match entry.state {
                State::Ready(places, _) => self.retired.extend(places),
                State::Reading(pieces) => self.retired.extend(pieces.into_values().flatten()),
                State::Unread | State::Empty | State::Refused => {}
            }
            numbers.extend([entry.numbers, entry.numbers_before]);
        }
        if numbers.is_empty() {
            return;
        }
        self.reuse_retired();
        numbers.into_iter().for_each(|numbers| self.numbers.give(numbers));
        // Those that there were no numbers for may have some now.
        self.entries.retain(|_, entry| entry.numbers != REFUSED_BLOCKS);
        self.stale.extend(&self.wanted);
    }

    /// Gives back places that nothing names, once no tick can look at them any more.
    fn reuse_retired(&mut self) {
        self.maps.wait_for_ticks();
        for place in self.retired.drain(..) {
            self.places.give(place);
        }
    }

    /// Whether rows of something that is mapped there are in the kernel.
    fn has_rows(&self, memory: &Memory) -> bool {
        let is_ready = |mapping: &Mapping| {
            let entry = self.entries.get(&mapping.executable);
            entry.is_some_and(|entry| matches!(entry.state, State::Ready(..) | State::Reading(_)))
        };
        memory.iter().any(is_ready)
    }

    /// Takes a process's mappings from the kernel: its ticks are finished here.
    fn withdraw(&mut self, pid: Pid) {
        if let Some(place) =
            self.processes.get_mut(&pid).and_then(|published| published.place.take())
        {
            self.maps.remove_process(pid.0);
            self.retired.push(place);
        }
    }

    fn mappings(
        &mut self,
        pid: Pid,
        stamp: u64,
        memory: &Memory,
        executables: &Executables,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut count = 0;
        for mapping in memory.iter().take(abi::MAPPINGS_MAX) {
            let executable = executables.get(mapping.executable);
            let entry = self.entry(mapping.executable, executables);
            let (first_block, block_shift) = (entry.numbers.start, entry.block_shift);
            let text = match entry.state {
                State::Empty => 0,
                State::Refused if block_shift == EMPTY_SHIFT => 0,
                _ => executable
                    .address_of(FileOffset(mapping.offset), VirtAddr(mapping.start))
                    .0
                    .wrapping_sub(entry.start),
            };
            let Mapping { start, end, .. } = *mapping;
            bytes.extend(abi::Mapping { start, end, text, first_block, block_shift }.as_bytes());
            count += 1;
        }
        let head = abi::Process { pid: pid.0, count, stamp };
        [head.as_bytes(), &bytes].concat()
    }

    /// Gives the entry of an executable; numbers its blocks when it is new.
    fn entry(&mut self, id: ExecutableId, executables: &Executables) -> &mut Entry {
        let (numbers, counts) = (&mut self.numbers, &mut self.counts);
        self.entries.entry(id).or_insert_with(|| {
            let executable = executables.get(id);
            let text = executable.file().and_then(|_| executable.text());
            let text = text.filter(|text| text.end - text.start <= TEXT_MAX);
            let start = text.as_ref().map_or(0, |text| table_start(text.start));
            let blocks = text.map_or(0, |text| (text.end - start).div_ceil(1 << BLOCK_SHIFT_MAX));
            let (numbers, block_shift, state) = match (blocks, numbers.take(blocks as u32)) {
                (0, _) => (EMPTY_BLOCKS, EMPTY_SHIFT, State::Empty),
                (_, Some(numbers)) => (numbers, BLOCK_SHIFT_MAX, State::Unread),
                (_, None) => (REFUSED_BLOCKS, EMPTY_SHIFT, State::Refused),
            };
            counts.refused += u64::from(matches!(state, State::Refused));
            let start = if block_shift == EMPTY_SHIFT { 0 } else { start };
            Entry { start, block_shift, numbers, numbers_before: 0..0, state, used: 0 }
        })
    }

    /// Gives the rule for an address of a process, `None` while it is not known. `memory`: as of then.
    pub fn rule(&self, memory: &Memory, executables: &Executables, at: VirtAddr) -> Option<Rule> {
        match self.find(memory, executables, at) {
            Found::Rule(rule) => Some(rule),
            Found::Missing(..) | Found::Refused | Found::NoMapping => None,
        }
    }

    /// Finds the rule for an address of a process.
    fn find(&self, memory: &Memory, executables: &Executables, at: VirtAddr) -> Found {
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
        let rule = block.map(|place| rule_in(self.maps.read(place.start), in_block));
        Found::Rule(rule.unwrap_or(Rule::NO_ROW))
    }

    /// Asks for the rows of an executable, and for some blocks before the others, once each.
    pub fn request(&mut self, id: ExecutableId, blocks: &[u32], executables: &Executables) {
        let entry = self.entry(id, executables);
        let is_new = matches!(entry.state, State::Unread);
        if is_new {
            entry.state = State::Reading(HashMap::new());
        }
        let State::Reading(asked) = &mut entry.state else { return };
        let is_unasked = |block: &u32| !asked.contains_key(block);
        let blocks: Vec<u32> = blocks.iter().copied().filter(is_unasked).collect();
        if blocks.is_empty() && !is_new {
            return;
        }
        match executables.get(id).file().and_then(|file| file.try_clone().ok()) {
            Some(file) => {
                asked.extend(blocks.iter().map(|block| (*block, None)));
                let content = executables.get(id).content;
                self.loader.request(Wanted { executable: id, file, content, blocks, is_new });
            }
            None if is_new => self.set_empty(id),
            None => {}
        }
    }

    /// Whether rows are being read.
    pub fn is_loading(&self) -> bool {
        self.loader.waiting > 0
    }

    /// Takes rows that have been read into the kernel. Waits so long if there is something to wait for;
    /// says whose rows they are.
    pub fn take_loaded(&mut self, patience: Duration) -> Option<ExecutableId> {
        let loaded = self.loader.take(patience)?;
        let id = loaded.executable;
        match loaded.what {
            What::Blocks(start, blocks) => self.take_blocks(id, start, &blocks),
            What::Whole(frames) => self.take_whole(id, frames),
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
                set_block(&self.maps, &entry.numbers, *number, &place);
                known.insert(*number, Some(place));
            }
        }
    }

    /// Takes all of a file's rows, in place of the blocks that there were.
    fn take_whole(&mut self, id: ExecutableId, frames: Option<Result<CallFrames, Error>>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let numbers = entry.numbers.clone();
        let pieces = match std::mem::replace(&mut entry.state, State::Unread) {
            State::Reading(pieces) => pieces,
            _ => HashMap::new(),
        };
        match frames {
            Some(Ok(frames)) => self.take_frames(id, &frames),
            Some(Err(Error::NoCallFrames)) => self.set_empty(id),
            _ => {
                self.counts.unreadable += 1;
                self.set_empty(id);
            }
        }
        let has_moved = self.entries.get(&id).is_some_and(|entry| entry.numbers != numbers);
        for (number, place) in pieces.into_iter().filter_map(|(n, place)| Some((n, place?))) {
            if has_moved {
                let _ = self.maps.set_block(numbers.start + number, 0);
            }
            self.retired.push(place);
        }
    }

    fn take_frames(&mut self, id: ExecutableId, frames: &CallFrames) {
        let table = &frames.table;
        self.counts.left_out += frames.left_out.total();
        if !self.fit_numbers(id, table) {
            return self.set_empty(id);
        }
        let mut places = Vec::with_capacity(table.blocks.len());
        for block in &table.blocks {
            match self.store(block) {
                Some(place) => places.push(place),
                None => {
                    self.retired.append(&mut places);
                    self.counts.refused += 1;
                    return self.set_all_blocks(id, abi::BLOCK_REFUSED, State::Refused);
                }
            }
        }
        let Some(entry) = self.entries.get_mut(&id) else { return };
        for (number, place) in (0..).zip(&places) {
            set_block(&self.maps, &entry.numbers, number, place);
        }
        entry.used = self.clock;
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

    /// Makes all blocks of an executable say the same.
    fn set_all_blocks(&mut self, id: ExecutableId, place: u32, state: State) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        for number in entry.numbers.clone() {
            let _ = self.maps.set_block(number, place); // the number is within the map
        }
        entry.state = state;
    }

    /// Stores bytes in a slab; an empty range for no bytes, `None` when there is no room.
    fn store(&mut self, bytes: &[u8]) -> Option<Range<u32>> {
        let units = bytes.len().div_ceil(UNIT) as u32;
        if units == 0 {
            return Some(0..0);
        }
        if units > SLAB_UNITS {
            return None;
        }
        let place = loop {
            if let Some(place) = self.places.take(units) {
                break place;
            }
            if !self.make_room() {
                return None;
            }
        };
        self.maps.write(place.start, bytes);
        Some(place)
    }

    /// Finds room: a new slab, else what was retired, else what was not used for longest.
    fn make_room(&mut self) -> bool {
        let slabs = self.maps.slabs();
        if slabs < self.slabs_max && self.maps.add_slab().is_ok() {
            let first = slabs * SLAB_UNITS;
            // The first places have meanings of their own.
            self.places.give(first.max(abi::BLOCK_REFUSED + 1)..first + SLAB_UNITS);
            return true;
        }
        if self.retired.is_empty() {
            self.evict();
        }
        if self.retired.is_empty() {
            return false;
        }
        self.reuse_retired();
        true
    }

    /// Withdraws the rows that were not used for longest.
    fn evict(&mut self) {
        let mut oldest: Vec<(u64, ExecutableId)> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.state, State::Ready(..)))
            .map(|(id, entry)| (entry.used, *id))
            .collect();
        oldest.sort_unstable();
        let enough = u64::from(self.slabs_max) * u64::from(SLAB_UNITS) / EVICTED_PART;
        let mut freed = 0;
        for (_, id) in oldest {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            for number in entry.numbers.clone() {
                let _ = self.maps.set_block(number, 0);
            }
            if let State::Ready(places, _) = std::mem::replace(&mut entry.state, State::Unread) {
                freed += places.iter().map(|place| u64::from(place.end - place.start)).sum::<u64>();
                self.retired.extend(places);
            }
            self.counts.evicted += 1;
            if freed >= enough {
                break;
            }
        }
    }
}

/// Publishes where one of an executable's blocks is.
fn set_block(maps: &WalkMaps, numbers: &Range<u32>, number: u32, place: &Range<u32>) {
    let place = if place.is_empty() { abi::BLOCK_EMPTY } else { place.start };
    if number < numbers.end - numbers.start {
        let _ = maps.set_block(numbers.start + number, place); // the number is within the map
    }
}
