//! Station 3: what walks in the kernel go by, within a budget of bytes.
//!
//! [`Tables`] puts mappings of processes and rows of executables into the kernel's slabs. Nothing is
//! there before it is needed: a tick that finds nothing takes its stack along, [`Tables::walk`] finishes
//! it here with the same rows, and from then on the kernel has them.
//!
//! Publication: first the bytes, then what points to them. Withdrawal goes the other way round, and a
//! place is used again only after every tick that may look at it has ended.

mod backoff;
mod cache;
mod loader;
mod mappings;
mod published;
mod rows;
mod slabs;
mod slots;
mod walk;

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use profile::{ExecutableId, Pid, VirtAddr};
use unwind::Rule;

use crate::kernel::{WalkMaps, abi};
use crate::processes::{AddressSpace, Executables};
use backoff::Backoffs;
pub use cache::{Cache, CacheCounts, CacheError};
use loader::Loader;
use published::Published;
use slabs::Slabs;
use slots::SlotAllocator;
pub use walk::WalkOutcome;

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
    /// Bytes of slabs, which hold rows and mappings.
    pub slab_bytes: u64,
    /// Rows that files have and tables have not.
    pub left_out: u64,
    /// Tables that made room for others.
    pub evicted: u64,
    /// Tables that found no room.
    pub refused: u64,
    /// Executables whose rows are not to be read now: there is no room, or others pushed them out over and over.
    pub waiting: u64,
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
    /// What its file held when it was opened.
    content: Option<backoff::Hash>,
    /// When its rows came, and the CPU time that reading them took.
    read: Option<(Instant, Duration)>,
}

#[derive(Debug)]
enum State {
    /// Nobody asked yet.
    Unread,
    /// The loader has it. SlotAllocator of the blocks that were read before, by number; `None`: asked for.
    Reading(HashMap<u32, Option<Range<u32>>>),
    /// In the kernel: place of each block, and rows of all.
    Ready(Vec<Range<u32>>, u64),
    /// It has no rows.
    Empty,
    /// There is no room for it, or it has to wait.
    Refused,
}

/// What to know about the rule for an address.
enum Found {
    Rule(Rule),
    /// The rows of this block of an executable's text are not there yet.
    Missing(ExecutableId, u32),
    /// There is no room for the rows, or they have to wait.
    Refused,
    NoMapping,
}

/// The tables of one session.
pub struct Tables {
    slabs: Slabs,
    /// Numbers of blocks that are free.
    numbers: SlotAllocator,
    entries: HashMap<ExecutableId, Entry>,
    processes: HashMap<Pid, Published>,
    /// Processes that were sampled: their mappings are kept in the kernel.
    wanted: HashSet<Pid>,
    /// Wanted processes whose mappings there are not the latest.
    stale: HashSet<Pid>,
    loader: Loader,
    backoffs: Backoffs,
    clock: u64,
    counts: TableCounts,
}

impl Tables {
    /// Has nothing in the kernel yet. `bytes_max`: what slabs may take. `open_bytes_max`: what may be held of files that are
    /// being read. `cache`: where tables of earlier runs are.
    ///
    /// # Errors
    /// When the loader's thread cannot be started or the first blocks not be written.
    pub fn new(
        maps: WalkMaps,
        bytes_max: u64,
        open_bytes_max: usize,
        cache: Option<Cache>,
    ) -> io::Result<Self> {
        for number in EMPTY_BLOCKS {
            maps.set_block(number, abi::BLOCK_EMPTY)?;
        }
        for number in REFUSED_BLOCKS {
            maps.set_block(number, abi::BLOCK_REFUSED)?;
        }
        let mut numbers = SlotAllocator::new(u32::MAX);
        numbers.give(REFUSED_BLOCKS.end..abi::BLOCKS_MAX);
        Ok(Self {
            slabs: Slabs::new(maps, bytes_max),
            numbers,
            entries: HashMap::new(),
            processes: HashMap::new(),
            wanted: HashSet::new(),
            stale: HashSet::new(),
            loader: Loader::spawn(cache, open_bytes_max)?,
            backoffs: Backoffs::default(),
            clock: 0,
            counts: TableCounts::default(),
        })
    }

    /// What there is.
    pub fn counts(&self) -> TableCounts {
        let (slab_bytes, cache) = (self.slabs.bytes(), self.loader.cached());
        let mut counts = TableCounts { slab_bytes, cache, ..self.counts };
        for entry in self.entries.values() {
            match &entry.state {
                State::Ready(_, rows) => {
                    counts.tables += 1;
                    counts.rows += rows;
                }
                State::Refused => counts.waiting += 1,
                _ => {}
            }
        }
        counts
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

    /// Gives the rule for an address of a process, `None` while it is not known. `memory`: as of then.
    pub fn rule(
        &self,
        memory: &AddressSpace,
        executables: &Executables,
        at: VirtAddr,
    ) -> Option<Rule> {
        match self.find(memory, executables, at) {
            Found::Rule(rule) => Some(rule),
            Found::Missing(..) | Found::Refused | Found::NoMapping => None,
        }
    }
}
