//! Publishes the mappings of sampled processes to the kernel.
//!
//! Walks in the kernel use the mappings that were published last, which may have been replaced
//! since. So the publisher remembers what it published and when, until all samples of that time
//! are counted.

use std::collections::{HashMap, HashSet};

use profile::{ExecutableId, FileOffset, Pid, VirtAddr};
use zerocopy::IntoBytes;

use super::published::PublishedMappings;
use super::published_runtime::runtime_bytes;
use super::row_store::RowStore;
use super::table_entry::{TableEntry, TableState};
use crate::events::{RawSample, now};
use crate::kernel::abi;
use crate::limits::{Charge, Owner, SharedPool};
use crate::processes::{AddressSpace, Executables, Mapping, Processes};
use crate::runtimes::{RecognitionError, RuntimeCounts, RuntimeProcess};

const HEADER_BYTES: usize = size_of::<abi::ProcessHeader>();
const MAPPING_BYTES: usize = size_of::<abi::MappingEntry>();

/// The published mappings of all processes.
pub struct MappingPublisher {
    /// Walks in the kernel use them; without such walks nothing is published.
    has_readers: bool,
    by_pid: HashMap<Pid, PublishedMappings>,
    /// Bytes of slabs for mappings.
    bytes: SharedPool,
    /// Processes whose mappings are kept up to date in the kernel.
    tracked: HashSet<Pid>,
    /// Tracked processes whose published mappings are stale.
    stale: HashSet<Pid>,
    /// Epochs of processes whose code objects are to be sent again.
    epochs: HashMap<Pid, u16>,
    /// Published processes with a runtime, which are counted.
    counted: HashSet<Pid>,
    /// Processes that were published, by their runtime.
    runtimes: RuntimeCounts,
}

impl MappingPublisher {
    /// Starts with nothing published. `bytes_max`: slab bytes for mappings, which unwind tables
    /// cannot use. Mappings beyond the part of an owner are not published.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            has_readers: true,
            by_pid: HashMap::new(),
            bytes: SharedPool::new(bytes_max),
            tracked: HashSet::new(),
            stale: HashSet::new(),
            epochs: HashMap::new(),
            counted: HashSet::new(),
            runtimes: RuntimeCounts::default(),
        }
    }

    /// Returns how many processes have which runtime, of those that were published.
    pub fn runtimes(&self) -> RuntimeCounts {
        self.runtimes
    }

    /// Returns a publisher that publishes nothing: all walks are in user space.
    pub fn without_readers() -> Self {
        Self { has_readers: false, ..Self::new(0) }
    }

    /// Returns how often mappings were not published because they exceed their owner's part.
    pub fn refused(&self) -> u64 {
        self.bytes.refused()
    }

    /// Keeps a process's mappings in the kernel from now on.
    pub fn track(&mut self, pid: Pid) {
        if self.has_readers && self.tracked.insert(pid) {
            self.stale.insert(pid);
        }
    }

    /// Invalidates the mappings of all processes, because process events were missed. The mappings
    /// are withdrawn until the process is current again.
    pub fn invalidate_all(&mut self) {
        self.stale.extend(self.by_pid.keys());
    }

    /// Invalidates the mappings of a process, as [`Self::invalidate_all`] does.
    pub fn invalidate(&mut self, pid: Pid) {
        if self.by_pid.contains_key(&pid) {
            self.stale.insert(pid);
        }
    }

    /// Brings the mappings of tracked processes up to date. `complete_until`: process events up
    /// to this time, in nanoseconds of CLOCK_MONOTONIC, are in `processes`.
    pub fn publish(&mut self, rows: &mut RowStore, processes: &mut Processes, complete_until: u64) {
        if rows.take_renumbered() {
            self.stale.extend(&self.tracked);
        }
        self.collect_changes(rows, processes);
        for pid in std::mem::take(&mut self.stale) {
            if !processes.is_current(pid) {
                self.tracked.remove(&pid);
                self.withdraw(rows, pid);
                if !processes.contains(pid) {
                    self.by_pid.remove(&pid);
                    self.counted.remove(&pid);
                    self.epochs.remove(&pid);
                }
            } else if !self.publish_process(rows, processes, pid, complete_until) {
                self.stale.insert(pid);
            }
        }
    }

    /// Marks processes with changed mappings as stale.
    fn collect_changes(&mut self, rows: &RowStore, processes: &mut Processes) {
        let changed = processes.take_changed();
        if !self.has_readers {
            return;
        }
        for pid in processes.take_lossy_code() {
            if self.tracked.contains(&pid) {
                let epoch = self.epochs.entry(pid).or_default();
                *epoch = epoch.wrapping_add(1);
                self.stale.insert(pid);
            }
        }
        for pid in changed {
            // A new process of a program that was sampled before will probably be sampled, too.
            if !self.tracked.contains(&pid) && rows.has_rows_of(&processes.address_space(pid)) {
                self.tracked.insert(pid);
            }
            let is_gone = self.by_pid.contains_key(&pid) && !processes.contains(pid);
            if self.tracked.contains(&pid) || is_gone {
                self.stale.insert(pid);
            }
            if let Some(published) = self.by_pid.get_mut(&pid) {
                published.note_change(now());
            }
        }
    }

    /// Publishes the mappings of a process. Returns false when it is too early: the process keeps
    /// remapping code, was published a moment ago, or has events that have not arrived.
    fn publish_process(
        &mut self,
        rows: &mut RowStore,
        processes: &Processes,
        pid: Pid,
        complete_until: u64,
    ) -> bool {
        let published = self.by_pid.get(&pid);
        if published.is_some_and(|published| !published.is_settled(now())) {
            self.withdraw(rows, pid);
            return false;
        }
        let generation = rows.maps().generation(pid.0);
        if generation > complete_until
            || published.is_some_and(|published| published.was_just_published(now()))
        {
            return false; // its events up to this generation of its memory are not here yet
        }
        let memory = processes.address_space(pid);
        let count = memory.count().min(abi::MAPPINGS_MAX);
        let runtime = processes.executables.runtime_of(&memory);
        self.count_runtime(pid, runtime.as_ref());
        let epoch = self.epochs.get(&pid).copied().unwrap_or(0);
        let runtime = runtime_bytes(runtime.and_then(Result::ok).as_ref(), epoch);
        let bytes = (HEADER_BYTES + count * MAPPING_BYTES + runtime.1.len()) as u64;
        let charge = self.charge(pid, processes.owner_of(pid), bytes);
        let stored = charge.and_then(|charge| {
            let executables = &processes.executables;
            let bytes = serialize(rows, pid, generation, &memory, executables, &runtime);
            Some((rows.store(&bytes)?, charge))
        });
        let Some((slot, charge)) = stored else {
            self.withdraw(rows, pid);
            return true;
        };
        if rows.maps().set_process(pid.0, slot.start).is_err() {
            rows.retire([slot]); // too many processes: the agent finishes the stacks of this one
            return true;
        }
        let published = self.by_pid.entry(pid).or_default();
        published.charge = Some(charge);
        rows.retire(published.replace(slot, memory, now(), complete_until));
        true
    }

    /// Counts a process by its runtime, once. One that has just started has not mapped its C
    /// library yet.
    fn count_runtime(
        &mut self,
        pid: Pid,
        runtime: Option<&Result<RuntimeProcess, RecognitionError>>,
    ) {
        let Some(runtime) = runtime else { return };
        let may_change =
            matches!(runtime, Err(RecognitionError::NoLibrary)) && !self.by_pid.contains_key(&pid);
        if !may_change && self.counted.insert(pid) {
            self.runtimes.add(runtime.as_ref().map(|runtime| runtime.version).map_err(|e| *e));
        }
    }

    /// Charges the owner of a process for slab bytes, in place of those that were published before.
    fn charge(&mut self, pid: Pid, owner: Owner, bytes: u64) -> Option<Charge> {
        let mut charge = match self.by_pid.get_mut(&pid).and_then(|one| one.charge.take()) {
            Some(before) if before.owner() == owner => before,
            _ => self.bytes.empty_charge(owner),
        };
        charge.shrink(charge.amount().saturating_sub(bytes));
        charge.grow(bytes - charge.amount()).then_some(charge)
    }

    /// Cuts the stack of a sample where the kernel used mappings that were not those of its time.
    /// `memory`: the mappings at its time.
    pub fn cut_at_stale_mapping(
        &mut self,
        time: u64,
        sample: &mut RawSample,
        memory: &AddressSpace,
    ) {
        let Some(published) = self.by_pid.get_mut(&sample.pid) else { return };
        if published.cut_at_stale_mapping(time, sample, memory) {
            published.unsettle(now());
            self.stale.insert(sample.pid);
        }
    }

    /// Returns the executables that walks may still look up.
    pub fn executables(&self) -> impl Iterator<Item = ExecutableId> {
        let mappings = self.by_pid.values().flat_map(PublishedMappings::mappings);
        mappings.map(|mapping| mapping.executable)
    }

    /// Withdraws a process's mappings from the kernel: the agent finishes its stacks.
    fn withdraw(&mut self, rows: &mut RowStore, pid: Pid) {
        let Some(published) = self.by_pid.get_mut(&pid) else { return };
        published.charge = None;
        if let Some(slot) = published.slot.take() {
            rows.maps().remove_process(pid.0);
            rows.retire([slot]);
        }
    }
}

/// Serializes mappings for the kernel, see [`abi::ProcessHeader`] and [`abi::MappingEntry`].
/// `runtime`: its kind, and what follows the mappings.
fn serialize(
    rows: &mut RowStore,
    pid: Pid,
    generation: u64,
    memory: &AddressSpace,
    executables: &Executables,
    (runtime, runtime_bytes): &(abi::RuntimeKind, Vec<u8>),
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut count = 0;
    for mapping in memory.iter().take(abi::MAPPINGS_MAX) {
        let entry = rows.entry(mapping.executable, executables);
        let (first_block, block_shift) = (entry.numbers.start, entry.block_shift);
        let text_offset = offset_in_text(entry, mapping, executables);
        let Mapping { start, end, .. } = *mapping;
        let entry = abi::MappingEntry { start, end, text_offset, first_block, block_shift };
        bytes.extend(entry.as_bytes());
        count += 1;
    }
    let is_partial = memory.is_incomplete() || memory.count() > abi::MAPPINGS_MAX;
    let (is_partial, runtime) = (u32::from(is_partial), *runtime as u32);
    let head = abi::ProcessHeader { pid: pid.0, count, generation, is_partial, runtime };
    [head.as_bytes(), &bytes, runtime_bytes].concat()
}

/// Returns the offset of a mapping in the text of its executable; 0 where all blocks are alike.
fn offset_in_text(entry: &TableEntry, mapping: &Mapping, executables: &Executables) -> u64 {
    match entry.state {
        TableState::Empty => 0,
        TableState::Refused if !entry.is_numbered() => 0,
        _ => {
            let (offset, start) = (FileOffset(mapping.offset), VirtAddr(mapping.start));
            let address = executables.get(mapping.executable).address_of(offset, start);
            address.0.wrapping_sub(entry.text_start)
        }
    }
}
