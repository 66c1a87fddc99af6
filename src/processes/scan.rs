//! Reads the state of processes from procfs: of those that ran before the side band was opened, of
//! those whose events were missed, and of those with more mappings than are stored.
//!
//! Mappings are read by the file helper. Each owner has a share of the time that reading may take;
//! a process that is not read has incomplete mappings.

use std::time::{Duration, Instant};

use profile::{ExecutableId, Pid, Tid, VirtAddr};

use super::copy_sources::CopySources;
use super::mappings::{AddressSpace, Mapping};
use super::perf_maps::JitDumpMarker;
use super::process_reader::ReadStart;
use super::process_table::{PROCESS_BYTES, Process, Processes};
use super::tracking_limit::TrackingLimit;
use crate::events::{FileIdentity, MmapEvent, now};
use crate::limits::Owner;
use crate::procfs::{self, ExecutableMaps, MapsEntry, ProcessStat};

/// How long the files of one process are opened. It may have thousands; of those that are left,
/// the ones that its stacks need are opened when it is sampled.
const OPENING_MAX: Duration = Duration::from_millis(500);

/// Why a process was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// It has exited, or may not be read.
    Exited,
    /// It does not answer, or the share of CPU time is used up: it may be read later.
    Refused,
}

/// The mappings that were read of a process.
struct Mapped {
    address_space: AddressSpace,
    copy_sources: CopySources,
    jit_dump: Option<JitDumpMarker>,
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

    /// Opens the file of a new mapping, and charges the time of that.
    pub(super) fn open_executable(&mut self, mapped: &MmapEvent, owner: Owner) -> ExecutableId {
        let start = ReadStart::now(&self.executables.file_helper);
        let executable = self.executables.open(mapped, owner);
        self.reader.charge_since(start, owner, &self.executables.file_helper);
        executable
    }

    /// Begins events that were read from their rings at a time, nanoseconds of CLOCK_MONOTONIC.
    /// When that was long ago, less time is left for reading processes.
    pub fn begin_events_of(&mut self, drained_at: u64) {
        self.reader.begin_events_of(drained_at);
    }

    /// Returns whether there is time left for reading a process; counts it if not.
    pub(super) fn has_read_time(&mut self, pid: Pid) -> bool {
        self.read_refusal(pid).is_none()
    }

    /// Returns why there is no time left for reading a process, and counts it.
    pub(super) fn read_refusal(&mut self, pid: Pid) -> Option<TrackingLimit> {
        let owner = self.owner(pid);
        let refusal = self.reader.refusal(owner);
        refusal.iter().for_each(|limit| self.executables.refusals.count(*limit));
        refusal
    }

    /// Reads a process. Returns also the running thread through which it was read.
    fn read_process(&mut self, pid: Pid) -> Result<(Process, Tid), ReadError> {
        let (time, start) = (now(), ReadStart::now(&self.executables.file_helper));
        let stat = procfs::stat(pid.0).ok_or(ReadError::Exited)?;
        let ProcessStat { comm, threads, is_zombie, is_kernel_thread, .. } = stat;
        let live = if is_zombie { procfs::running_thread(pid.0) } else { Some(pid.0) };
        let tid = Tid(live.ok_or(ReadError::Exited)?);
        let owner = self.reader.owners.read(pid).ok_or(ReadError::Exited)?;
        self.reader.charge_since(start, owner, &self.executables.file_helper);
        let maps = match is_kernel_thread {
            true => ExecutableMaps::default(),
            false => self.read_maps((pid, tid), &[], owner)?,
        };

        let mapped = self.open_mapped((pid, tid), maps, owner);
        let record = self.executables.memory.charge(owner, PROCESS_BYTES);
        let unread = Process::unread(&self.executables);
        let process = Process {
            comm,
            address_space: mapped.address_space,
            copy_sources: mapped.copy_sources,
            jit_dump: mapped.jit_dump,
            threads,
            since: time,
            owner,
            is_owner_read: true,
            record,
            ..unread
        };
        Ok((process, tid))
    }

    /// Opens the files of the mappings that were read of a process, and charges the time of that.
    fn open_mapped(
        &mut self,
        (pid, tid): (Pid, Tid),
        maps: ExecutableMaps,
        owner: Owner,
    ) -> Mapped {
        let start = ReadStart::now(&self.executables.file_helper);
        let mut address_space = AddressSpace::new(self.executables.memory.empty_charge(owner));
        if maps.is_incomplete {
            address_space.set_incomplete();
        }
        let (mut copy_sources, mut jit_dump) = (CopySources::default(), None);
        for entry in maps.entries {
            let is_executable = entry.is_executable;
            let mapped = mmap_event(pid, tid, entry);
            jit_dump = self.jit_dump_marker(&mapped, owner).or(jit_dump);
            let executable = match self.executables.find_unchanged(&mapped, owner) {
                Some(executable) => executable,
                None if start.elapsed() > OPENING_MAX => {
                    self.executables.refusals.count(TrackingLimit::WallTime);
                    address_space.set_incomplete();
                    break;
                }
                None => self.executables.open(&mapped, owner),
            };
            if !is_executable {
                copy_sources.add(Mapping::of(&mapped, executable));
            } else if !address_space.insert(&mapped, executable) {
                self.executables.refusals.count(TrackingLimit::Mappings);
                break;
            }
        }
        self.reader.charge_since(start, owner, &self.executables.file_helper);
        Mapped { address_space, copy_sources, jit_dump }
    }

    /// Reads the mappings of a process through the file helper, and charges the time of that.
    fn read_maps(
        &mut self,
        process: (Pid, Tid),
        addresses: &[u64],
        owner: Owner,
    ) -> Result<ExecutableMaps, ReadError> {
        let file_helper = &mut self.executables.file_helper;
        let start = ReadStart::now(file_helper);
        let maps = file_helper.maps(process, addresses, owner);
        self.reader.charge_since(start, owner, file_helper);
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
