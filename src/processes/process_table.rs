//! What processes exist and what they have mapped, at one moment.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use profile::{ExecutableId, Labels, Pid};

use super::copy_sources::CopySources;
use super::executables::Executables;
use super::kernel_symbols::KernelSymbols;
use super::labelling::{Labeller, ProcessLabels};
use super::mappings::AddressSpace;
use super::owners::is_kept_by_exec;
use super::perf_maps::{JitDumpMarker, PerfMaps};
use super::process_reader::ProcessReader;
use super::process_runtime::Interpreters;
use super::thread_names::ThreadNames;
use super::tracking_limit::{RefusalCounts, TrackingLimit};
use crate::events::MmapEvent;
use crate::limits::{Charge, Owner, SharedRate};

/// Bytes that a process takes besides its mappings.
pub(super) const PROCESS_BYTES: u64 = 512;
/// Memory for perf maps and jitdumps unless it is set: see [`Processes::limit_perf_maps`].
const PERF_MAPS_BYTES: u64 = 1 << 20;
/// Mappings of a process before its owner is read instead of inherited: most have fewer.
const MAPPINGS_BEFORE_OWNER: usize = 64;

/// All processes and their mappings at one moment, which events advance.
#[derive(Debug)]
pub struct Processes {
    pub(super) by_pid: BTreeMap<Pid, Process>,
    /// Exited processes and when they exited, oldest first.
    pub(super) exited: VecDeque<(u64, Pid)>,
    /// Processes whose mappings have changed since [`Self::take_changed`].
    pub(super) changed: HashSet<Pid>,
    /// Events up to this time may have been missed.
    missed_until: u64,
    pub(super) reader: ProcessReader,
    /// The last process that [`Self::detect_missed_exits`] has checked.
    pub(super) last_checked: Pid,
    /// Reads labels; `None` when they are not used.
    pub(super) labeller: Option<Labeller>,
    pub(super) reads_command_lines: bool,
    /// Names of threads; `None` if samples carry them.
    pub(super) thread_names: Option<ThreadNames>,
    /// Names of code that JIT compilers write.
    pub(super) perf_maps: PerfMaps,
    /// Interpreters and their code objects.
    pub(super) interpreters: Interpreters,
    /// Names of code that comes into the kernel and leaves it.
    pub(super) kernel_symbols: KernelSymbols,
    /// The files behind the mappings.
    pub executables: Executables,
}

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) comm: Box<str>,
    pub(super) address_space: AddressSpace,
    /// Running threads; 0 once the process has exited.
    pub(super) threads: u32,
    /// The state is complete as of this time; later events are applied to it. The process was read
    /// from procfs then, or called exec. Nanoseconds of CLOCK_MONOTONIC; 0 while only some events
    /// are known.
    pub(super) since: u64,
    /// Events of it up to this time were missed.
    pub(super) missed_until: u64,
    pub(super) labels: ProcessLabels,
    /// Its command line as a label; `None` while unread.
    pub(super) command_line: Option<Arc<Labels>>,
    /// What its memory may be a copy of.
    pub(super) copy_sources: CopySources,
    /// The jitdump that it has mapped.
    pub(super) jit_dump: Option<JitDumpMarker>,
    /// Who pays for its memory.
    pub(super) owner: Owner,
    /// The owner was read and not inherited.
    pub(super) is_owner_read: bool,
    /// Pays for this entry.
    pub(super) record: Option<Charge>,
}

impl Process {
    /// Returns a process of which nothing is known.
    pub(super) fn unread(executables: &Executables) -> Self {
        let mut address_space = AddressSpace::new(executables.memory.empty_charge(Owner::UNKNOWN));
        address_space.set_incomplete();
        Self {
            comm: Box::default(),
            address_space,
            threads: 1,
            since: 0,
            missed_until: 0,
            labels: ProcessLabels::default(),
            command_line: None,
            copy_sources: CopySources::default(),
            jit_dump: None,
            owner: Owner::UNKNOWN,
            is_owner_read: false,
            record: None,
        }
    }

    /// Returns a child that this process has forked: it shares the memory.
    pub(super) fn fork(&self, pid: Pid, since: u64) -> Self {
        Self {
            comm: self.comm.clone(),
            address_space: self.address_space.clone(),
            threads: 1,
            since,
            missed_until: 0,
            labels: self.labels.of_child(pid),
            command_line: self.command_line.clone(),
            copy_sources: self.copy_sources.clone(),
            jit_dump: None, // it has the number of the parent
            owner: self.owner,
            is_owner_read: self.is_owner_read && is_kept_by_exec(self.owner),
            record: None,
        }
    }
}

impl Processes {
    /// Returns an empty table. Reading processes takes as much time as it needs; see
    /// [`Self::limit_read_time`].
    pub fn new(executables: Executables) -> Self {
        Self {
            by_pid: BTreeMap::new(),
            exited: VecDeque::new(),
            changed: HashSet::new(),
            missed_until: 0,
            reader: ProcessReader::default(),
            last_checked: Pid(0),
            labeller: None,
            reads_command_lines: false,
            thread_names: None,
            perf_maps: PerfMaps::new(PERF_MAPS_BYTES),
            interpreters: Interpreters::default(),
            kernel_symbols: KernelSymbols::default(),
            executables,
        }
    }

    /// Limits the CPU time for reading sampled processes. `rate`: CPU seconds per second, which
    /// another thread may change.
    pub fn limit_read_time(&mut self, rate: SharedRate) {
        self.reader.limit(rate);
    }

    /// Opens the file behind a new mapping before its event is due, while its process is still
    /// alive.
    pub fn open_mapped_file(&mut self, mapped: &MmapEvent) {
        self.executable_of_new(mapped);
    }

    /// Returns the executable of a new mapping; opens its file unless it is open and unchanged.
    /// `None` when its owner has no CPU time left for that.
    pub(super) fn executable_of_new(&mut self, mapped: &MmapEvent) -> Option<ExecutableId> {
        let owner = self.owner_of(mapped.pid);
        if let Some(executable) = self.executables.find_unchanged(mapped, owner) {
            return Some(executable);
        }
        if !self.has_read_time(mapped.pid) {
            return None;
        }
        let owner = self.owner(mapped.pid);
        Some(self.open_executable(mapped, owner))
    }

    /// Returns the owner of a process as far as it is known.
    pub fn owner_of(&self, pid: Pid) -> Owner {
        self.by_pid.get(&pid).map_or(Owner::UNKNOWN, |process| process.owner)
    }

    /// Returns the owner of a process; reads it if it was only inherited.
    pub(super) fn owner(&mut self, pid: Pid) -> Owner {
        let process = self.by_pid.get_mut(&pid);
        if let Some(process) = process.as_ref().filter(|process| process.is_owner_read) {
            return process.owner;
        }
        let owner = self.reader.owners.read(pid);
        let Some(process) = process else { return owner.unwrap_or(Owner::UNKNOWN) };
        process.owner = owner.unwrap_or(process.owner);
        process.is_owner_read = true;
        process.owner
    }

    /// Marks all processes as stale because events up to this time may have been missed. Each is
    /// stale until it is read from procfs again or calls exec.
    pub fn invalidate_before(&mut self, time: u64) {
        self.missed_until = self.missed_until.max(time);
        if let Some(names) = &mut self.thread_names {
            *names = ThreadNames::default(); // read again when threads are sampled
        }
    }

    /// Marks a process as stale because events of it up to this time were missed.
    pub fn invalidate_process_before(&mut self, pid: Pid, time: u64) {
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.missed_until = time;
        }
    }

    /// Returns whether no event of a process was missed since it was read or called exec.
    fn has_all_events(&self, process: &Process) -> bool {
        process.since > self.missed_until.max(process.missed_until)
    }

    /// Removes what may be wrong of a process that exited while its events were missed.
    pub(super) fn invalidate_exited(&mut self, pid: Pid) {
        if let Some(process) = self.by_pid.get_mut(&pid).filter(|process| process.since > 0) {
            let unread = Process::unread(&self.executables);
            let (threads, record) = (process.threads, process.record.take());
            *process = Process { threads, record, ..unread };
            self.changed.insert(pid);
        }
    }

    /// Returns the number of processes.
    pub fn count(&self) -> usize {
        self.by_pid.len()
    }

    /// Returns how many processes were read from procfs when they were sampled or forked.
    pub fn refresh_count(&self) -> u64 {
        self.reader.count
    }

    /// Returns whether a process is known with all its events.
    pub fn is_current(&self, pid: Pid) -> bool {
        self.by_pid.get(&pid).is_some_and(|process| self.has_all_events(process))
    }

    /// Returns whether a process was current before events were missed.
    pub fn is_stale(&self, pid: Pid) -> bool {
        let process = self.by_pid.get(&pid).filter(|process| process.since > 0);
        process.is_some_and(|process| !self.has_all_events(process))
    }

    /// Returns whether what is known of a process is of a later time.
    pub fn is_known_from_after(&self, pid: Pid, time: u64) -> bool {
        self.by_pid.get(&pid).is_some_and(|process| process.since > time)
    }

    /// Returns whether anything is known of a process.
    pub fn contains(&self, pid: Pid) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// Returns the name of a process: `comm` of its main thread.
    pub fn comm(&self, pid: Pid) -> Option<&str> {
        self.by_pid.get(&pid).map(|process| &*process.comm).filter(|comm| !comm.is_empty())
    }

    /// Returns the mappings of a process. None, and incomplete, while it is not known or stale.
    pub fn address_space(&self, pid: Pid) -> AddressSpace {
        let process = self.by_pid.get(&pid).filter(|_| !self.is_stale(pid));
        process.map_or_else(AddressSpace::unread, |process| process.address_space.clone())
    }

    /// Returns how often each limit was the reason that something is not known.
    pub fn refusals(&self) -> RefusalCounts {
        self.executables.refusals
    }

    /// Returns the bytes that processes, mappings and executables take.
    pub fn memory(&self) -> u64 {
        self.executables.memory.used()
    }

    /// Returns the executables that any process has mapped.
    pub fn mapped_executables(&self) -> HashSet<ExecutableId> {
        let address_spaces = self.by_pid.values().map(|process| &process.address_space);
        address_spaces.flat_map(AddressSpace::iter).map(|mapping| mapping.executable).collect()
    }

    /// Takes the processes whose mappings have changed since the last call, removed ones included.
    pub fn take_changed(&mut self) -> HashSet<Pid> {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn remove(&mut self, pid: Pid) {
        self.by_pid.remove(&pid);
        self.perf_maps.remove(pid);
        self.interpreters.remove(pid);
        self.changed.insert(pid);
    }

    pub(super) fn insert(&mut self, pid: Pid, mut process: Process) {
        self.changed.insert(pid);
        self.by_pid.remove(&pid);
        if process.record.is_none() {
            process.record = self.executables.memory.charge(process.owner, PROCESS_BYTES);
        }
        if process.record.is_some() {
            self.by_pid.insert(pid, process);
        } else {
            self.executables.refusals.count(TrackingLimit::Processes);
        }
    }

    /// Returns a process that is about to change; `None` when there is no space for a new one.
    pub(super) fn entry(&mut self, pid: Pid) -> Option<&mut Process> {
        if self.by_pid.contains_key(&pid) {
            self.changed.insert(pid);
        } else {
            self.insert(pid, Process::unread(&self.executables));
        }
        self.by_pid.get_mut(&pid)
    }

    /// Adds a mapping to a process. `executable`: `None` if there was no time to open it.
    pub(super) fn insert_mapping(&mut self, mapped: &MmapEvent, executable: Option<ExecutableId>) {
        let pid = mapped.pid;
        let Some(process) = self.entry(pid) else { return };
        let Some(executable) = executable else { return process.address_space.clear(mapped) };
        let fits = process.address_space.insert(mapped, executable);
        let is_large = process.address_space.count() >= MAPPINGS_BEFORE_OWNER;
        if is_large && !process.is_owner_read {
            let owner = self.owner(pid);
            if let Some(process) = self.by_pid.get_mut(&pid) {
                process.address_space.transfer(owner);
            }
        }
        if !fits {
            self.executables.refusals.count(TrackingLimit::Mappings);
        }
    }
}
