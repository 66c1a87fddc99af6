//! Reads the state of processes from procfs: of those that ran before the side band was opened, of
//! those whose events were missed, and of those with more mappings than are stored.
//!
//! Mappings are read by the file helper. Each owner has a share of the CPU time that reading may
//! take; a process that is not read has incomplete mappings.

use std::time::{Duration, Instant};

use profile::{ExecutableId, Pid, Tid, VirtAddr};

use super::copy_sources::CopySources;
use super::mappings::{AddressSpace, Mapping};
use super::process_table::{PROCESS_BYTES, Process, Processes};
use super::tracking_limit::TrackingLimit;
use crate::events::{FileIdentity, MmapEvent, cpu_time, now};
use crate::limits::Owner;
use crate::procfs::{self, ExecutableMaps, MapsEntry, ProcessStat};

/// Why a process was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// It has exited, or may not be read.
    Exited,
    /// It does not answer, or the share of CPU time is used up: it may be read later.
    Refused,
}

impl Processes {
    /// Reads all processes, one after another, for `max` at most. Returns whether all were read.
    pub fn scan_all(&mut self, max: Duration) -> bool {
        let begin = Instant::now();
        for pid in procfs::pids() {
            self.scan(Pid(pid));
            if begin.elapsed() > max {
                return false;
            }
        }
        true
    }

    /// Reads a process that nothing is known about. Those that have exited are left out.
    pub fn scan(&mut self, pid: Pid) {
        if let Ok(read) = self.read_process(pid) {
            self.insert_read(pid, read);
        }
    }

    /// Reads a process from procfs unless it is current. An exited process keeps only its thread
    /// count.
    pub fn refresh(&mut self, pid: Pid) {
        if pid.0 == 0 || self.is_current(pid) {
            return;
        }
        if !self.has_read_time(pid) {
            return;
        }
        match self.read_process(pid) {
            Ok(read) => {
                self.reader.count += 1;
                self.insert_read(pid, read);
            }
            Err(ReadError::Exited) => self.invalidate_exited(pid),
            Err(ReadError::Refused) => {}
        }
    }

    /// Reads those mappings of a process that contain `addresses`, in ascending order, because not
    /// all of its mappings are stored. Where they do not fit, they replace those that are. Returns
    /// whether there are any.
    pub fn read_mappings_of(&mut self, pid: Pid, tid: Tid, addresses: &[u64]) -> bool {
        if !self.has_read_time(pid) {
            return false;
        }
        let owner = self.owner(pid);
        let Ok(maps) = self.read_maps((pid, tid), addresses, owner) else { return false };
        let executable = maps.entries.into_iter().filter(|entry| entry.is_executable);
        let mapped = executable.map(|entry| mmap_event(pid, tid, entry));
        let mut found: Vec<(MmapEvent, ExecutableId)> = Vec::new();
        for mapped in mapped {
            let executable = self.executable_of_new(&mapped);
            found.extend(executable.map(|executable| (mapped, executable)));
        }
        let memory = self.executables.memory.clone();
        let Some(process) = self.entry(pid) else { return false };
        let all = || found.iter();
        if !all().all(|(mapped, executable)| process.address_space.insert(mapped, *executable)) {
            process.address_space = AddressSpace::new(memory.empty_charge(owner));
            process.address_space.set_incomplete();
            for (mapped, executable) in all() {
                process.address_space.insert(mapped, *executable);
            }
        }
        self.recognize_copied_texts(pid, tid);
        !found.is_empty()
    }

    /// Inserts a process that was read through its thread.
    fn insert_read(&mut self, pid: Pid, (process, tid): (Process, Tid)) {
        self.insert(pid, process);
        self.recognize_copied_texts(pid, tid);
    }

    /// Opens the file of a new mapping, and charges the CPU time of that.
    pub(super) fn open_executable(&mut self, mapped: &MmapEvent, owner: Owner) -> ExecutableId {
        let (begin, before) = (cpu_time(), self.executables.file_helper.usage().cpu);
        let executable = self.executables.open(mapped, owner);
        let helper = self.executables.file_helper.usage().cpu.saturating_sub(before);
        self.reader.charge(owner, cpu_time().saturating_sub(begin) + helper);
        executable
    }

    /// Returns whether the owner of a process has CPU time left for reading it; counts it if not.
    pub(super) fn has_read_time(&mut self, pid: Pid) -> bool {
        let owner = self.owner(pid);
        let has_credit = self.reader.has_time(owner);
        if !has_credit {
            self.executables.refusals.count(TrackingLimit::Time);
        }
        has_credit
    }

    /// Reads a process. Returns also the running thread through which it was read.
    fn read_process(&mut self, pid: Pid) -> Result<(Process, Tid), ReadError> {
        let (time, begin) = (now(), cpu_time());
        let stat = procfs::stat(pid.0).ok_or(ReadError::Exited)?;
        let ProcessStat { comm, threads, is_zombie, is_kernel_thread, .. } = stat;
        let live = if is_zombie { procfs::running_thread(pid.0) } else { Some(pid.0) };
        let tid = Tid(live.ok_or(ReadError::Exited)?);
        let owner = self.reader.owners.read(pid).ok_or(ReadError::Exited)?;
        self.reader.charge(owner, cpu_time().saturating_sub(begin));
        let maps = match is_kernel_thread {
            true => ExecutableMaps::default(),
            false => self.read_maps((pid, tid), &[], owner)?,
        };

        let begin = cpu_time();
        let mut address_space = AddressSpace::new(self.executables.memory.empty_charge(owner));
        let (mut copy_sources, mut jit_dump) = (CopySources::default(), None);
        for entry in maps.entries {
            let is_executable = entry.is_executable;
            let mapped = mmap_event(pid, tid, entry);
            jit_dump = self.jit_dump_marker(&mapped, owner).or(jit_dump);
            let executable = match self.executables.find_unchanged(&mapped, owner) {
                Some(executable) => executable,
                None => self.open_executable(&mapped, owner),
            };
            if !is_executable {
                copy_sources.add(Mapping::of(&mapped, executable));
            } else if !address_space.insert(&mapped, executable) {
                self.executables.refusals.count(TrackingLimit::Mappings);
                break;
            }
        }
        if maps.is_incomplete {
            address_space.set_incomplete();
        }
        self.reader.charge(owner, cpu_time().saturating_sub(begin));
        let record = self.executables.memory.charge(owner, PROCESS_BYTES);
        let unread = Process::unread(&self.executables);
        let process = Process {
            comm,
            address_space,
            copy_sources,
            jit_dump,
            threads,
            since: time,
            owner,
            is_owner_read: true,
            record,
            ..unread
        };
        Ok((process, tid))
    }

    /// Reads the mappings of a process through the file helper, and charges the CPU time of both.
    fn read_maps(
        &mut self,
        process: (Pid, Tid),
        addresses: &[u64],
        owner: Owner,
    ) -> Result<ExecutableMaps, ReadError> {
        let file_helper = &mut self.executables.file_helper;
        let (begin, before) = (cpu_time(), file_helper.usage().cpu);
        let maps = file_helper.maps(process, addresses, owner);
        let used =
            cpu_time().saturating_sub(begin) + file_helper.usage().cpu.saturating_sub(before);
        self.reader.charge(owner, used);
        maps.map_err(|error| match error.kind() {
            std::io::ErrorKind::TimedOut => {
                self.executables.refusals.count(TrackingLimit::Unanswered);
                ReadError::Refused
            }
            _ => ReadError::Exited,
        })
    }
}

fn mmap_event(pid: Pid, tid: Tid, entry: MapsEntry) -> MmapEvent {
    let MapsEntry { start, end, offset, major, minor, inode, path, .. } = entry;
    // Of memory, /proc says 0 where events have the address. What grows downwards stays the same.
    let is_memory = inode == 0 && !path.starts_with("[v"); // [vdso], [vsyscall]
    let offset = if is_memory { start } else { offset };
    MmapEvent {
        pid,
        tid,
        start: VirtAddr(start),
        end: VirtAddr(end),
        offset,
        file: FileIdentity { major, minor, inode },
        path,
    }
}
