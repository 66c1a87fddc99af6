//! What processes exist and what they have mapped, at one moment.

use std::collections::{BTreeMap, HashSet, VecDeque};

use profile::{ExecutableId, Pid};

use super::executables::Executables;
use super::labelling::{Labeller, ProcessLabels};
use super::mappings::AddressSpace;
use super::scan::{ScannedProcess, scan_process};
use crate::events::MmapEvent;

/// Processes tracked at once. Frames of further processes cannot be resolved.
const PROCESSES_MAX: usize = 1 << 18;

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
    refresh_count: u64,
    /// The last process that [`Self::detect_missed_exits`] has checked.
    pub(super) last_checked: Pid,
    /// Reads labels; `None` when they are not used.
    pub(super) labeller: Option<Labeller>,
    /// The files behind the mappings.
    pub executables: Executables,
}

/// One process.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub(super) comm: Box<str>,
    pub(super) address_space: AddressSpace,
    /// Running threads; 0 once the process has exited.
    pub(super) threads: u32,
    /// The state is complete as of this time; later events are applied to it. The process was read
    /// from procfs then, or called exec. Nanoseconds of CLOCK_MONOTONIC; 0 while only some events
    /// are known.
    pub(super) since: u64,
    pub(super) labels: ProcessLabels,
}

impl Processes {
    /// Returns an empty table.
    pub fn new(executables: Executables) -> Self {
        Self {
            by_pid: BTreeMap::new(),
            exited: VecDeque::new(),
            changed: HashSet::new(),
            missed_until: 0,
            refresh_count: 0,
            last_checked: Pid(0),
            labeller: None,
            executables,
        }
    }

    /// Opens the file behind a new mapping before its event is due, while its process is still
    /// alive.
    pub fn open_mapped_file(&mut self, mapped: &MmapEvent) {
        self.executables.find_or_open(mapped);
    }

    /// Marks all processes as stale because events up to this time may have been missed. Each is
    /// stale until it is read from procfs again or calls exec.
    pub fn invalidate_before(&mut self, time: u64) {
        self.missed_until = time;
    }

    /// Replaces a process by its state in procfs.
    pub fn insert_scanned(&mut self, scanned: &ScannedProcess) {
        let ScannedProcess { pid, time, comm, threads, mappings } = scanned;
        let mut address_space = AddressSpace::default();
        for mapped in mappings {
            let executable = self.executables.find_or_open(mapped);
            address_space.insert(mapped, executable);
        }
        let (comm, threads, since) = (comm.clone(), *threads, *time);
        let labels = ProcessLabels::default();
        self.insert(*pid, Process { comm, address_space, threads, since, labels });
    }

    /// Reads a process from procfs unless it is current. One that has exited by now loses what may
    /// be wrong.
    pub fn refresh(&mut self, pid: Pid) {
        if pid.0 == 0 || self.is_current(pid) {
            return;
        }
        if let Some(scanned) = scan_process(pid) {
            self.refresh_count += 1;
            return self.insert_scanned(&scanned);
        }
        if let Some(process) = self.by_pid.get_mut(&pid).filter(|process| process.since > 0) {
            *process = Process { threads: process.threads, ..Process::default() };
            self.changed.insert(pid);
        }
    }

    /// Returns the number of processes.
    pub fn count(&self) -> usize {
        self.by_pid.len()
    }

    /// Returns how many processes were read from procfs when they were sampled or forked.
    pub fn refresh_count(&self) -> u64 {
        self.refresh_count
    }

    /// Returns whether a process is known with all its events.
    pub fn is_current(&self, pid: Pid) -> bool {
        self.by_pid.get(&pid).is_some_and(|process| process.since > self.missed_until)
    }

    /// Returns whether a process was current before events were missed.
    pub fn is_stale(&self, pid: Pid) -> bool {
        let stale = 1..=self.missed_until;
        self.by_pid.get(&pid).is_some_and(|process| stale.contains(&process.since))
    }

    /// Returns whether anything is known of a process.
    pub fn contains(&self, pid: Pid) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// Returns the name of a process: `comm` of its main thread.
    pub fn comm(&self, pid: Pid) -> Option<&str> {
        self.by_pid.get(&pid).map(|process| &*process.comm).filter(|comm| !comm.is_empty())
    }

    /// Returns the mappings of a process; none when it is not known.
    pub fn address_space(&self, pid: Pid) -> AddressSpace {
        self.by_pid.get(&pid).map(|process| process.address_space.clone()).unwrap_or_default()
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
        self.changed.insert(pid);
    }

    pub(super) fn insert(&mut self, pid: Pid, process: Process) {
        self.changed.insert(pid);
        if self.by_pid.len() < PROCESSES_MAX || self.by_pid.contains_key(&pid) {
            self.by_pid.insert(pid, process);
        }
    }

    /// Returns a process that is about to change; `None` when there is no space for a new one.
    pub(super) fn entry(&mut self, pid: Pid) -> Option<&mut Process> {
        if self.by_pid.len() >= PROCESSES_MAX && !self.by_pid.contains_key(&pid) {
            return None;
        }
        self.changed.insert(pid);
        Some(self.by_pid.entry(pid).or_insert_with(|| Process { threads: 1, ..Process::default() }))
    }
}
