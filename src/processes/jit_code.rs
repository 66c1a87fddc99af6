//! Names code of JIT compilers: asks the jitdump or perf map of its process, and has it read. Names
//! code that comes into the kernel as the kernel reports it.
//!
//! A sample is named by the entries that were read before it; an address without one waits for the
//! next read. So an entry counts from the time on at which it was read.

use std::ops::Range;
use std::time::{Duration, Instant};

use profile::{CodeNameId, Frame, Pid, Tid, VirtAddr};

use super::code_name_gap::CodeNameGap;
use super::mappings::Mapping;
use super::perf_maps::{JitDumpMarker, PerfMapPart, PerfMaps};
use super::process_reader::ReadStart;
use super::process_table::Processes;
use super::tracking_limit::TrackingLimit;
use crate::events::{MmapEvent, now};
use crate::limits::Owner;
use crate::procfs;

/// How long a map is read at once; the rest follows the next time.
const READ_MAX: Duration = Duration::from_millis(20);
/// How long the rest is read when there is no next time.
const LAST_READ_MAX: Duration = Duration::from_millis(500);
/// How long the rest of all maps is read.
const LAST_READS_MAX: Duration = Duration::from_secs(2);

impl Processes {
    /// Sets the memory for perf maps and jitdumps, in bytes. What was read is forgotten.
    pub fn limit_perf_maps(&mut self, bytes: u64) {
        self.perf_maps = PerfMaps::new(bytes);
    }

    /// Returns the memory of perf maps, jitdumps and their names, in bytes.
    pub fn perf_map_memory(&self) -> u64 {
        self.perf_maps.memory()
    }

    /// Remembers a new mapping if it is of the jitdump of its process.
    pub(super) fn note_jit_dump(&mut self, mapped: &MmapEvent) {
        if JitDumpMarker::number(&mapped.path).is_none() {
            return; // as nearly all: the owner of each process is not read for it
        }
        let owner = self.owner_of(mapped.pid);
        let Some(marker) = self.jit_dump_marker(mapped, owner) else { return };
        self.perf_maps.expect_jit_dump(mapped.pid, marker.id);
        if let Some(process) = self.by_pid.get_mut(&mapped.pid) {
            process.jit_dump = Some(marker);
        }
    }

    /// Returns a mapping as that of the jitdump of its process, if it is. `owner`: who pays for it.
    pub(super) fn jit_dump_marker(
        &mut self,
        mapped: &MmapEvent,
        owner: Owner,
    ) -> Option<JitDumpMarker> {
        let number = JitDumpMarker::number(&mapped.path)?;
        if self.reader.refusal(owner).is_some() {
            return None;
        }
        // A child has the mapping of its parent's jitdump, and the number is that of the parent.
        let start = ReadStart::now(&self.executables.file_helper);
        let own_number = procfs::status(mapped.pid.0).namespace_pid;
        self.reader.charge_since(start, owner, &self.executables.file_helper);
        if own_number != Some(number) {
            return None;
        }
        JitDumpMarker::new(mapped, &self.executables.memory, owner)
    }

    /// Reads the map of a sampled process if it is due and the process may have code of a JIT
    /// compiler: its sample will wait for an unwind table, and the process may exit meanwhile.
    pub fn read_perf_map_ahead(&mut self, pid: Pid, tid: Tid) {
        if !self.perf_maps.contains(pid) {
            let Some(process) = self.by_pid.get(&pid) else { return };
            let may_be_jit =
                |mapping: &Mapping| self.executables.get(mapping.executable).may_be_jit_code();
            if !process.address_space.iter().any(may_be_jit) {
                return;
            }
        }
        if self.perf_maps.is_due((pid, tid), self.owner_of(pid)) {
            self.read_perf_map(pid, false);
        }
    }

    /// Names a frame of a process and thread that were sampled at a time, if it lies in code of a
    /// JIT compiler. `address`: in the memory of the process; `time`: in nanoseconds of
    /// CLOCK_MONOTONIC.
    pub fn name_jit_code(
        &mut self,
        frame: Frame,
        (pid, tid): (Pid, Tid),
        address: VirtAddr,
        time: u64,
    ) -> Frame {
        if !self.executables.get(frame.executable).may_be_jit_code() {
            return frame;
        }
        let is_due = self.perf_maps.is_due((pid, tid), self.owner_of(pid));
        let mut code_name = self.known_code_name(&frame, pid, address, time);
        if is_due || code_name.is_none() && self.perf_maps.is_due_for_miss(pid) {
            self.read_perf_map(pid, false);
            code_name = code_name.or_else(|| self.known_code_name(&frame, pid, address, time));
        }
        if code_name.is_none() && self.read_map_of_origin(&frame, pid) {
            code_name = self.known_code_name(&frame, pid, address, time);
        }
        let code_name = code_name.or_else(|| {
            let origin = self.origin(&frame, pid).filter(|first| self.perf_maps.is_held(*first));
            let origin = origin.filter(|_| !self.perf_maps.is_held(pid));
            self.perf_maps.pending_name(origin.unwrap_or(pid), address.0)
        });
        Frame { code_name, ..frame }
    }

    /// Names a frame of the kernel at a time, if it lies in code that comes and goes.
    pub fn name_kernel_code(&mut self, frame: Frame, time: u64) -> Frame {
        let names = &mut self.perf_maps.names;
        Frame { code_name: self.kernel_symbols.name_at(frame.address.0, time, names), ..frame }
    }

    /// Sets what code is in the kernel now and may leave it: at the start, and after events may
    /// have been missed; `None` if that is not known. `time`: of now, in nanoseconds of
    /// CLOCK_MONOTONIC; 0 at the start.
    pub fn set_kernel_code(&mut self, functions: Option<Vec<Range<u64>>>, time: u64) {
        self.kernel_symbols.set(functions, time);
    }

    /// Returns the name of an address by the map of the process; of memory that it has from before
    /// a fork, by the map of the process that has mapped it, as of the fork.
    fn known_code_name(
        &mut self,
        frame: &Frame,
        pid: Pid,
        VirtAddr(address): VirtAddr,
        time: u64,
    ) -> Option<CodeNameId> {
        let own = self.perf_maps.name_at(pid, address, time);
        own.or_else(|| {
            let since = self.by_pid.get(&pid).map_or(0, |process| process.since);
            let time = if since == 0 { time } else { time.min(since) };
            self.perf_maps.name_at(self.origin(frame, pid)?, address, time)
        })
    }

    /// Returns the process that has mapped the memory of a frame before it was forked; `None` if
    /// that is the process itself, or if it has executed another program since.
    fn origin(&self, frame: &Frame, pid: Pid) -> Option<Pid> {
        let first = self.executables.get(frame.executable).process.filter(|first| *first != pid)?;
        let since = |pid| self.by_pid.get(&pid).map_or(0, |process| process.since);
        (since(pid) == 0 || since(first) <= since(pid)).then_some(first)
    }

    /// Reads the map of the process that has mapped the memory of a frame, if it is due: it may not
    /// be sampled itself. Returns whether it was read.
    fn read_map_of_origin(&mut self, frame: &Frame, pid: Pid) -> bool {
        let Some(first) = self.origin(frame, pid).filter(|first| self.by_pid.contains_key(first))
        else {
            return false;
        };
        let tid = self.perf_maps.get(first).map_or(Tid(first.0), |map| map.tid);
        let is_due = self.perf_maps.is_due((first, tid), self.owner_of(first))
            || self.perf_maps.is_due_for_miss(first);
        if is_due {
            self.read_perf_map(first, false);
        }
        is_due
    }

    /// Reads what a map has got since the last time. Its owner pays. `is_last`: there is no next
    /// time.
    fn read_perf_map(&mut self, pid: Pid, is_last: bool) {
        if !self.perf_maps.has_bytes_left(pid) {
            return self.perf_maps.postpone(pid, CodeNameGap::TooLarge);
        }
        if let Some(limit) = self.read_refusal(pid) {
            let is_late = limit == TrackingLimit::WallTime;
            let gap = if is_late { CodeNameGap::Unanswered } else { CodeNameGap::ShareSpent };
            return self.perf_maps.postpone(pid, gap);
        }
        let owner = self.owner(pid);
        let (start, time) = (ReadStart::now(&self.executables.file_helper), now());
        let max = if is_last { LAST_READ_MAX } else { READ_MAX };
        let mut is_whole = is_last;
        while let Some(map) = self.perf_maps.get(pid) {
            let marker = self.by_pid.get(&pid).and_then(|process| process.jit_dump.as_ref());
            let part = self.executables.file_helper.perf_map(pid, map, marker, is_last, owner);
            let part =
                part.unwrap_or_else(|gap| PerfMapPart { gap: Some(gap), ..PerfMapPart::default() });
            let has_more = self.perf_maps.apply(pid, part, time, &self.executables.open_files);
            is_whole |= !has_more;
            if !has_more || start.elapsed() > max {
                break;
            }
        }
        self.reader.charge_since(start, owner, &self.executables.file_helper);
        self.perf_maps.end_read(pid, is_whole, start.elapsed());
    }

    /// Reads the maps that may have names of samples that lack one: their window closes.
    pub fn read_pending_perf_maps(&mut self) {
        for pid in self.perf_maps.with_pending() {
            if self.perf_maps.is_readable(pid) {
                self.read_perf_map(pid, false);
            }
        }
    }

    /// Reads the maps that may have names of samples that lack one a last time.
    pub fn finish_perf_maps(&mut self) {
        let start = Instant::now();
        for pid in self.perf_maps.with_pending() {
            if start.elapsed() < LAST_READS_MAX {
                self.read_perf_map(pid, true);
            }
        }
    }

    /// Reads the map of a process that exits or calls exec a last time, if it is held.
    pub(super) fn finish_perf_map(&mut self, pid: Pid) {
        if self.perf_maps.is_held(pid) {
            self.read_perf_map(pid, true);
        }
    }
}
