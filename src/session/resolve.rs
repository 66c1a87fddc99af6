//! Stage 2, resolve: determines for each sample its process and what that process had mapped.
//!
//! The resolver owns everything known about processes. Events reach it in time order, so its
//! state is always that of the sample at hand.

use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use profile::{ExecutableId, Pid};

use super::options::ScanScope;
use crate::events::{InterpreterStack, MmapEvent, RawSample, TimedEvent, now};
use crate::processes::{AddressSpace, Identity, InterpretedStack, Processes};
use crate::tables::{MappingPublisher, RowStore};

/// The pass over /proc ends after this time; the remaining processes are looked up when they are
/// sampled.
const SCAN_MAX: Duration = Duration::from_secs(1);
/// How long to wait for a table when nothing else is left to do: a file system may never answer.
pub(super) const TABLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Addresses that user code may have.
const CODE: Range<u64> = 0x1000..1 << 56;
/// Interval between two checks of some processes for missed exits.
const EXIT_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A sample with its process as of its time.
pub(super) struct ResolvedSample {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    pub sample: RawSample,
    pub process: Identity,
    pub memory: AddressSpace,
    /// What an interpreter runs in it.
    pub interpreted: Option<InterpretedStack>,
}

/// Keeps processes and executables up to date.
pub(super) struct Resolver {
    pub processes: Processes,
    /// There may be processes that are not known: the pass over /proc ended before it had seen
    /// every process, or events were skipped.
    may_miss_processes: bool,
    next_exit_check: Instant,
}

impl Resolver {
    pub fn new(processes: Processes) -> Self {
        let next_exit_check = Instant::now() + EXIT_CHECK_INTERVAL;
        Self { processes, may_miss_processes: false, next_exit_check }
    }

    /// Reads the processes in scope from /proc. For those that are listed, rows and mappings are
    /// in the kernel before their first tick.
    pub fn scan(
        &mut self,
        scope: ScanScope,
        rows: &mut RowStore,
        publisher: &mut MappingPublisher,
    ) {
        match scope {
            ScanScope::All => self.may_miss_processes = !self.processes.scan_all(SCAN_MAX),
            ScanScope::Only(pids) => {
                for pid in pids {
                    self.processes.scan(pid);
                    self.load(pid, rows, publisher);
                }
            }
        }
    }

    fn load(&mut self, pid: Pid, rows: &mut RowStore, publisher: &mut MappingPublisher) {
        publisher.track(pid);
        rows.request_mapped(&self.processes.address_space(pid), &self.processes.executables);
        while rows.take_loaded(TABLE_TIMEOUT, &self.processes.executables).is_some() {}
        publisher.publish(rows, &mut self.processes, 0);
    }

    /// Invalidates what is known about processes: events up to this time may have been missed.
    pub fn invalidate_before(&mut self, time: u64) {
        self.processes.invalidate_before(time);
    }

    /// Invalidates a process: events of it up to this time were skipped.
    pub fn invalidate_process_before(&mut self, pid: Pid, time: u64) {
        self.may_miss_processes = true;
        self.processes.invalidate_process_before(pid, time);
    }

    /// Invalidates what is known about processes when the file helper answers again: files that it
    /// did not open meanwhile count as impossible to open.
    pub fn check_file_helper(&mut self, time: u64) {
        if self.processes.executables.take_recovered() {
            self.processes.invalidate_before(time);
        }
    }

    /// Opens the file of a new mapping before its event is due, while its process still exists.
    pub fn open_mapped_file(&mut self, mmap: &MmapEvent) {
        self.processes.open_mapped_file(mmap);
    }

    /// Reads about the process of a sample before the sample is due, while the process still
    /// exists.
    pub fn look_up_ahead(&mut self, time: u64, sample: &RawSample) {
        if self.may_miss_processes || self.processes.is_stale(sample.pid) {
            self.processes.refresh(sample.pid);
        }
        self.processes.prepare_labels(sample.pid, sample.tid, sample.cgroup_id, time);
        if sample.snapshot.is_some() {
            self.processes.read_perf_map_ahead(sample.pid, sample.tid);
        }
    }

    /// Reads the mappings that the stack of a sample may need, if not all mappings of its process
    /// are stored. Returns whether there are any.
    pub fn read_missing_mappings(&mut self, sample: &RawSample) -> bool {
        let pid = sample.pid;
        let is_partly_known =
            self.processes.is_current(pid) && self.processes.address_space(pid).is_incomplete();
        is_partly_known
            && self.processes.read_mappings_of(pid, sample.tid, &possible_code_addresses(sample))
    }

    /// Applies a process event.
    pub fn apply(&mut self, event: TimedEvent) {
        self.processes.apply(event);
    }

    /// Resolves a sample. Cuts its stack where the kernel walked it by stale mappings.
    /// `interpreter`: its frames of an interpreter.
    pub fn resolve(
        &mut self,
        time: u64,
        mut sample: RawSample,
        interpreter: Option<&InterpreterStack>,
        rows: &RowStore,
        publisher: &mut MappingPublisher,
    ) -> ResolvedSample {
        self.processes.refresh(sample.pid);
        let memory = self.memory_at(time, sample.pid, rows);
        publisher.cut_at_stale_mapping(time, &mut sample, &memory);
        let process = self.processes.identity(sample.pid, sample.tid, sample.cgroup_id, time);
        let interpreted =
            interpreter.and_then(|stack| self.processes.interpreted_stack(stack, &memory));
        ResolvedSample { time, sample, process, memory, interpreted }
    }

    /// Returns the mappings of a process at the time of a sample. They are not known if they were
    /// read later, and the process has called exec in between.
    fn memory_at(&self, time: u64, pid: Pid, rows: &RowStore) -> AddressSpace {
        let is_replaced =
            self.processes.is_known_from_after(pid, time) && rows.may_be_replaced_since(pid, time);
        if is_replaced { AddressSpace::unread() } else { self.processes.address_space(pid) }
    }

    /// Checks some processes for missed exits, if it is time for that.
    pub fn check_exits(&mut self) {
        if self.next_exit_check <= Instant::now() {
            self.processes.detect_missed_exits(now());
            self.next_exit_check = Instant::now() + EXIT_CHECK_INTERVAL;
        }
    }

    /// Forgets executables that are not among `mapped`, and of which no window from `oldest` on
    /// has a frame. Returns them.
    pub fn forget_executables(
        &mut self,
        mapped: impl Iterator<Item = ExecutableId>,
        oldest: u64,
    ) -> Vec<ExecutableId> {
        let mut all: HashSet<ExecutableId> = self.processes.mapped_executables();
        all.extend(mapped);
        self.processes.remove_unused_code_names(oldest);
        self.processes.executables.remove_unused(&all, oldest)
    }
}

/// Returns all addresses of code that the stack of a sample may lead to, in ascending order: its
/// frames, and every word of its stack.
fn possible_code_addresses(sample: &RawSample) -> Vec<u64> {
    let frames = sample.user.iter().map(|frame| frame.lookup_address().0);
    let words = sample.snapshot.iter().flat_map(|snapshot| {
        let words = snapshot.stack.chunks_exact(8).filter_map(|word| word.try_into().ok());
        words.map(u64::from_ne_bytes).chain([snapshot.registers.ip])
    });
    let mut addresses: Vec<u64> = frames.chain(words).filter(|a| CODE.contains(a)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
