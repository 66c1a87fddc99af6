//! Mappings of processes, as walks in the kernel go by them.

use profile::{ExecutableId, FileOffset, Pid, StackEnd, VirtAddr};
use zerocopy::IntoBytes;

use super::published::{self, Published};
use super::{EMPTY_SHIFT, State, Tables};
use crate::events::{RawSample, now};
use crate::kernel::abi;
use crate::processes::{AddressSpace, Executables, Mapping, Processes};

impl Tables {
    /// Keeps a process's mappings in the kernel from now on.
    pub fn want(&mut self, pid: Pid) {
        if self.wanted.insert(pid) {
            self.stale.insert(pid);
        }
    }

    /// Learns that the mappings of all processes are in doubt: the kernel goes by none before they are published anew.
    pub fn invalidate_mappings(&mut self) {
        self.stale.extend(self.processes.keys());
    }

    /// Brings the mappings of wanted processes up to date. `known`: process events up to this time, in
    /// nanoseconds of CLOCK_MONOTONIC, are in `processes`.
    pub fn publish(&mut self, processes: &mut Processes, known: u64) {
        for pid in processes.take_changed() {
            // A new process of a program that has been sampled before will be sampled, too.
            if !self.wanted.contains(&pid) && self.has_rows(&processes.address_space(pid)) {
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
            if !processes.is_current(pid) {
                self.wanted.remove(&pid);
                self.withdraw(pid);
                if !processes.contains(pid) {
                    self.processes.remove(&pid);
                }
                continue;
            }
            if self.processes.get(&pid).is_some_and(|published| !published.is_settled(now())) {
                self.withdraw(pid);
                self.stale.insert(pid);
                continue;
            }
            let generation = self.slabs.maps.generation(pid.0);
            if generation > known || self.processes.get(&pid).is_some_and(|p| p.is_fresh(now())) {
                self.stale.insert(pid); // it has other memory by now, of which we do not know yet
                continue;
            }
            let memory = processes.address_space(pid);
            let bytes = self.mappings(pid, generation, &memory, &processes.executables);
            let Some(place) = self.store(&bytes) else {
                self.withdraw(pid);
                continue;
            };
            if self.slabs.maps.set_process(pid.0, place.start).is_err() {
                self.slabs.retire(place); // too many processes: its ticks are finished here
                continue;
            }
            let published = self.processes.entry(pid).or_default();
            let replaced = published.replace(place, memory, now(), known);
            self.slabs.retire_all(replaced);
        }
    }

    /// Cuts the stack of a sample where the kernel walked by mappings that were not those of its time. `memory`: what was
    /// mapped then.
    pub fn cut_unsure(&mut self, time: u64, sample: &mut RawSample, memory: &AddressSpace) {
        let Some(published) = self.processes.get_mut(&sample.pid) else { return };
        let walked_by = published.at(time);
        let sure = walked_by.and_then(|by| published::sure_frames(sample, by, memory));
        if let Some(sure) = sure {
            published.unsettle(now());
            self.stale.insert(sample.pid);
            sample.user = sample.user[..sure].into();
            (sample.user_end, sample.snapshot) = (StackEnd::NoTable, None);
        }
    }

    /// Gives the executables that walks may still look for.
    pub fn mapped(&self) -> impl Iterator<Item = ExecutableId> {
        let mappings = self.processes.values().flat_map(Published::mappings);
        mappings.map(|mapping| mapping.executable)
    }

    /// Whether rows of something that is mapped there are in the kernel.
    fn has_rows(&self, memory: &AddressSpace) -> bool {
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
            self.slabs.maps.remove_process(pid.0);
            self.slabs.retire(place);
        }
    }

    fn mappings(
        &mut self,
        pid: Pid,
        generation: u64,
        memory: &AddressSpace,
        executables: &Executables,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut count = 0;
        for mapping in memory.iter().take(abi::MAPPINGS_MAX) {
            let executable = executables.get(mapping.executable);
            let entry = self.entry(mapping.executable, executables);
            let (first_block, block_shift) = (entry.numbers.start, entry.block_shift);
            let text_offset = match entry.state {
                State::Empty => 0,
                State::Refused if block_shift == EMPTY_SHIFT => 0,
                _ => executable
                    .address_of(FileOffset(mapping.offset), VirtAddr(mapping.start))
                    .0
                    .wrapping_sub(entry.start),
            };
            let Mapping { start, end, .. } = *mapping;
            bytes.extend(
                abi::MappingEntry { start, end, text_offset, first_block, block_shift }.as_bytes(),
            );
            count += 1;
        }
        let head = abi::ProcessHeader { pid: pid.0, count, generation };
        [head.as_bytes(), &bytes].concat()
    }
}
