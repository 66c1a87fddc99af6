//! Station 2: which process had what mapped, at the time of each sample.
//!
//! [`Processes`] is fed events in the order of time, after one pass over /proc
//! ([`scan_processes`]). It answers where an address lies: in which executable and where in it.
//! Executables are opened the moment the kernel tells of them, so that what exits or
//! is deleted later can still be named.

mod content;
mod elf;
mod executables;
mod file_helper;
mod labelling;
mod mappings;
pub mod open_files;
pub mod proc;
mod scan;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Bound;

use profile::{ExecutableId, Pid};

use crate::events::{CommEvent, Event, ExitEvent, ForkEvent, MmapEvent, TimedEvent};
pub use content::ContentId;
pub use executables::{Executable, Executables, Origin, WindowExecutables};
pub use file_helper::serve as serve_file_helper;
pub use labelling::{Identity, LabelCounts};
use labelling::{Labeller, Labelling};
pub use mappings::{AddressSpace, Mapping};
pub use scan::{ScannedProcess, scan_process, scan_processes};

/// A process that has exited is kept for so many nanoseconds: its exit goes on for a while, and is sampled...
const EXITED_KEPT_NS: u64 = 1_000_000_000;
/// ...but no more of them than this.
const EXITED_MAX: usize = 4096;
/// Processes known at once. What comes on top is not known, and its frames have no place.
const PROCESSES_MAX: usize = 1 << 18;
/// Processes that are asked in one round whether they are there at all, and those of which /proc is read again in it.
const ASKED_AT_ONCE: usize = 64;
const READ_AT_ONCE: usize = 8;

/// All processes and what they have mapped. Fed with events, it knows one moment in time.
#[derive(Debug)]
pub struct Processes {
    by_pid: BTreeMap<Pid, Process>,
    exited: VecDeque<(u64, Pid)>,
    changed: HashSet<Pid>,
    /// Events may have been lost until then.
    missed_until: u64,
    refresh_count: u64,
    /// The last one that was asked whether it is there.
    asked: Pid,
    /// Reads labels; `None`: nobody wants them.
    labeller: Option<Labeller>,
    /// The files behind the mappings.
    pub executables: Executables,
}

#[derive(Clone, Debug, Default)]
struct Process {
    comm: Box<str>,
    memory: AddressSpace,
    /// Threads that run; none: it has exited.
    threads: u32,
    /// All that happened up to then is in here, and every event since: /proc was read then, or it called exec. Nanoseconds of
    /// CLOCK_MONOTONIC; 0 while only some events are known.
    since: u64,
    labelling: Labelling,
}

impl Processes {
    /// Knows no process yet.
    pub fn new(executables: Executables) -> Self {
        Self {
            by_pid: BTreeMap::new(),
            exited: VecDeque::new(),
            changed: HashSet::new(),
            missed_until: 0,
            refresh_count: 0,
            asked: Pid(0),
            labeller: None,
            executables,
        }
    }

    /// Opens the file behind a new mapping while its process still lives: before the
    /// event's turn has come.
    pub fn open_mapped_file(&mut self, mapped: &MmapEvent) {
        self.executables.find_or_open(mapped);
    }

    /// Learns of an event. Samples are no news, and neither is what /proc has told already.
    pub fn apply(&mut self, TimedEvent { time, event }: TimedEvent) {
        let is_told = |pid| self.by_pid.get(&pid).is_some_and(|process| time < process.since);
        match event {
            Event::Fork(started) if !is_told(started.pid) => self.start(time, started),
            Event::Comm(named) if !is_told(named.pid) => self.name(time, named),
            Event::Mmap(mapped) if !is_told(mapped.pid) => self.map(&mapped),
            Event::Exit(exited) if !is_told(exited.pid) => self.exit(time, exited),
            _ => {}
        }
    }

    /// Learns that events up to this time may have been lost: what was known is in doubt, process by process, until it
    /// is looked up again.
    pub fn invalidate_before(&mut self, until: u64) {
        self.missed_until = until;
    }

    /// Learns what /proc told of a process.
    pub fn insert_scanned(&mut self, scanned: &ScannedProcess) {
        let ScannedProcess { pid, time, comm, threads, mappings } = scanned;
        let mut memory = AddressSpace::default();
        for mapped in mappings {
            let executable = self.executables.find_or_open(mapped);
            memory.insert(mapped, executable);
        }
        let (comm, threads) = (comm.clone(), *threads);
        let process =
            Process { comm, memory, threads, since: *time, labelling: Labelling::default() };
        self.insert(*pid, process);
    }

    /// Reads in /proc of a process that is not known for sure. If it is gone by now, what may be wrong is forgotten.
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

    /// Processes that are known now.
    pub fn count(&self) -> usize {
        self.by_pid.len()
    }

    /// Processes that were looked up in /proc when they were sampled or forked.
    pub fn refresh_count(&self) -> u64 {
        self.refresh_count
    }

    /// Says whether all of a process is known for sure.
    pub fn is_current(&self, pid: Pid) -> bool {
        self.by_pid.get(&pid).is_some_and(|process| process.since > self.missed_until)
    }

    /// Says whether what is known of a process may be wrong.
    pub fn is_stale(&self, pid: Pid) -> bool {
        self.by_pid
            .get(&pid)
            .is_some_and(|process| (1..=self.missed_until).contains(&process.since))
    }

    /// Says whether anything is known of a process.
    pub fn contains(&self, pid: Pid) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// Gives the name of a process: `comm` of its main thread.
    pub fn comm(&self, pid: Pid) -> Option<&str> {
        self.by_pid.get(&pid).map(|process| &*process.comm).filter(|comm| !comm.is_empty())
    }

    /// Gives what a process has mapped by now; nothing if it is not known.
    pub fn address_space(&self, pid: Pid) -> AddressSpace {
        self.by_pid.get(&pid).map(|process| process.memory.clone()).unwrap_or_default()
    }

    /// Gives the executables that some process has mapped.
    pub fn mapped_executables(&self) -> HashSet<ExecutableId> {
        let memories = self.by_pid.values().map(|process| &process.memory);
        memories.flat_map(AddressSpace::iter).map(|mapping| mapping.executable).collect()
    }

    /// Gives the processes whose mappings have changed since this was last asked, the forgotten among them.
    pub fn take_changed(&mut self) -> HashSet<Pid> {
        std::mem::take(&mut self.changed)
    }

    /// Forgets who exited some time before `now`, up to which all samples have been counted.
    pub fn remove_exited(&mut self, now: u64) {
        while let Some((time, pid)) = self.exited.front().copied() {
            if time + EXITED_KEPT_NS > now && self.exited.len() <= EXITED_MAX {
                break;
            }
            self.exited.pop_front();
            // The number may belong to a new process by now.
            if self.by_pid.get(&pid).is_some_and(|process| process.threads == 0) {
                self.remove(pid);
            }
        }
    }

    /// Asks the kernel of some processes whether they are there: the event of their exit may have been lost. Who is gone has
    /// exited by `now`, and is kept as long as others: samples of it may still wait for their turn. Some of those that are there and
    /// in doubt are looked up: what they had mapped is held for nothing.
    pub fn detect_missed_exits(&mut self, now: u64) {
        let after = (Bound::Excluded(self.asked), Bound::Unbounded);
        let asked: Vec<Pid> =
            self.by_pid.range(after).take(ASKED_AT_ONCE).map(|(pid, _)| *pid).collect();
        self.asked = asked.last().copied().unwrap_or(Pid(0));
        let doubted: Vec<Pid> =
            asked.iter().copied().filter(|pid| self.is_stale(*pid)).take(READ_AT_ONCE).collect();
        doubted.into_iter().for_each(|pid| self.refresh(pid));
        for pid in asked {
            let number = rustix::process::Pid::from_raw(pid.0 as i32);
            let answer = number.map(rustix::process::test_kill_process);
            let process = self.by_pid.get_mut(&pid);
            if let (Some(Err(rustix::io::Errno::SRCH)), Some(process)) = (answer, process) {
                process.threads = 0;
                self.exited.push_back((now, pid));
            }
        }
    }

    fn start(&mut self, time: u64, started: ForkEvent) {
        if started.pid == started.parent {
            if let Some(process) = self.by_pid.get_mut(&started.pid) {
                process.threads += 1;
            }
            return;
        }
        self.refresh(started.parent);
        let since = if self.is_current(started.parent) { time } else { 0 };
        let parent = self.by_pid.get(&started.parent).cloned().unwrap_or_default();
        let labelling = parent.labelling.child(started.parent);
        self.insert(started.pid, Process { threads: 1, since, labelling, ..parent });
    }

    fn name(&mut self, time: u64, named: CommEvent) {
        if !named.is_exec && named.tid.0 != named.pid.0 {
            return; // a thread's own name; its samples bring it
        }
        let Some(process) = self.entry(named.pid) else { return };
        process.comm = named.comm;
        if named.is_exec {
            process.memory = AddressSpace::default();
            (process.threads, process.since) = (1, time);
            process.labelling.exec();
        }
    }

    fn map(&mut self, mapped: &MmapEvent) {
        let executable = self.executables.find(mapped);
        if let Some(process) = self.entry(mapped.pid) {
            process.memory.insert(mapped, executable);
            process.labelling.map(&mapped.path);
        }
    }

    fn exit(&mut self, time: u64, exited: ExitEvent) {
        let Some(process) = self.by_pid.get_mut(&exited.pid) else { return };
        process.threads = process.threads.saturating_sub(1);
        if process.threads == 0 {
            self.exited.push_back((time, exited.pid));
        }
    }

    fn remove(&mut self, pid: Pid) {
        self.by_pid.remove(&pid);
        self.changed.insert(pid);
    }

    fn insert(&mut self, pid: Pid, process: Process) {
        self.changed.insert(pid);
        if self.by_pid.len() < PROCESSES_MAX || self.by_pid.contains_key(&pid) {
            self.by_pid.insert(pid, process);
        }
    }

    fn entry(&mut self, pid: Pid) -> Option<&mut Process> {
        if self.by_pid.len() >= PROCESSES_MAX && !self.by_pid.contains_key(&pid) {
            return None;
        }
        self.changed.insert(pid);
        Some(self.by_pid.entry(pid).or_insert_with(|| Process { threads: 1, ..Process::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::FileIdentity;
    use profile::{FileAddr, Tid, VirtAddr};

    fn at(time: u64, event: Event) -> TimedEvent {
        TimedEvent { time, event }
    }

    fn mapped(pid: u32, start: u64, end: u64) -> Event {
        Event::Mmap(MmapEvent {
            pid: Pid(pid),
            tid: Tid(pid),
            start: VirtAddr(start),
            end: VirtAddr(end),
            offset: 0,
            file: FileIdentity::default(),
            path: "//anon".into(),
        })
    }

    fn named(pid: u32, comm: &str, is_exec: bool) -> Event {
        Event::Comm(CommEvent { pid: Pid(pid), tid: Tid(pid), comm: comm.into(), is_exec })
    }

    fn known() -> Processes {
        let mut processes = Processes::new(Executables::new(16, ""));
        processes.apply(at(1, named(10, "parent", true)));
        processes.apply(at(1, mapped(10, 0x1000, 0x2000)));
        processes
    }

    fn address(processes: &Processes, pid: u32, at: u64) -> Option<FileAddr> {
        let memory = processes.address_space(Pid(pid));
        processes.executables.resolve(&memory, VirtAddr(at)).map(|frame| frame.address)
    }

    #[test]
    fn a_forked_child_has_its_parents_memory_until_it_execs() {
        let mut processes = known();
        processes.apply(at(1, Event::Fork(ForkEvent { pid: Pid(11), parent: Pid(10) })));
        assert_eq!(address(&processes, 11, 0x1800), Some(FileAddr(0x1800)));
        assert_eq!(processes.comm(Pid(11)), Some("parent"));

        processes.apply(at(1, named(11, "child", true)));
        assert_eq!(address(&processes, 11, 0x1800), None);
        assert_eq!(processes.comm(Pid(11)), Some("child"));
        assert_eq!(address(&processes, 10, 0x1800), Some(FileAddr(0x1800)));
    }

    #[test]
    fn threads_share_the_process() {
        let mut processes = known();
        processes.apply(at(1, Event::Fork(ForkEvent { pid: Pid(10), parent: Pid(10) })));
        let thread =
            CommEvent { pid: Pid(10), tid: Tid(12), comm: "worker".into(), is_exec: false };
        processes.apply(at(1, Event::Comm(thread)));
        assert_eq!(processes.comm(Pid(10)), Some("parent"));
        assert_eq!(address(&processes, 10, 0x1000), Some(FileAddr(0x1000)));
    }

    fn exit(pid: u32, tid: u32) -> Event {
        Event::Exit(ExitEvent { pid: Pid(pid), tid: Tid(tid) })
    }

    #[test]
    fn a_process_lives_on_when_its_main_thread_has_ended() {
        let mut processes = known();
        processes.apply(at(2, Event::Fork(ForkEvent { pid: Pid(10), parent: Pid(10) })));
        processes.apply(at(3, exit(10, 10)));
        processes.remove_exited(3 + 2 * EXITED_KEPT_NS);
        assert_eq!(address(&processes, 10, 0x1fff), Some(FileAddr(0x1fff)));
        processes.apply(at(4 + 2 * EXITED_KEPT_NS, exit(10, 12)));
        processes.remove_exited(4 + 4 * EXITED_KEPT_NS);
        assert_eq!(address(&processes, 10, 0x1fff), None);
    }

    #[test]
    fn samples_that_come_right_after_the_exit_are_resolved() {
        let mut processes = known();
        processes.apply(at(2, exit(10, 10)));
        processes.remove_exited(3);
        assert_eq!(address(&processes, 10, 0x1fff), Some(FileAddr(0x1fff)));
    }

    #[test]
    fn exited_processes_are_forgotten_oldest_first() {
        let mut processes = known();
        processes.apply(at(2, exit(10, 10)));
        for pid in 100..100 + EXITED_MAX as u32 {
            processes.apply(at(3, named(pid, "short", true)));
            processes.apply(at(3, exit(pid, pid)));
        }
        processes.remove_exited(3);
        assert!(!processes.is_current(Pid(10)));
        assert!(processes.is_current(Pid(101)));
    }

    #[test]
    fn a_number_that_is_used_again_is_another_process() {
        let mut processes = known();
        processes.apply(at(2, exit(10, 10)));
        processes.apply(at(3, Event::Fork(ForkEvent { pid: Pid(10), parent: Pid(1 << 30) })));
        assert_eq!(address(&processes, 10, 0x1800), None);
        processes.apply(at(3, named(10, "second", true)));
        processes.remove_exited(3 + 2 * EXITED_KEPT_NS);
        assert_eq!(processes.comm(Pid(10)), Some("second"));
    }

    #[test]
    fn lost_events_put_all_in_doubt_but_what_calls_exec_later() {
        let mut processes = known();
        processes.invalidate_before(5);
        assert!(!processes.is_current(Pid(10)));
        processes.apply(at(6, named(10, "again", true)));
        assert!(processes.is_current(Pid(10)));
    }

    #[test]
    fn events_that_proc_has_told_already_change_nothing() {
        let mut processes = known();
        let me = Pid(std::process::id());
        processes.refresh(me);
        let since = crate::events::now();
        assert!(processes.is_current(me));
        processes.apply(at(1, named(me.0, "before", true)));
        assert_ne!(processes.comm(me), Some("before"));
        processes.apply(at(since, named(me.0, "after", true)));
        assert_eq!(processes.comm(me), Some("after"));
    }

    #[test]
    fn who_is_gone_without_a_word_is_forgotten_like_others_and_samples_of_it_are_resolved_until_then()
     {
        const GONE: u32 = 0x7fff_fff0;
        let mut processes = known();
        processes.apply(at(1, named(std::process::id(), "we", true)));
        processes.apply(at(1, named(GONE, "nobody", true)));
        processes.apply(at(1, mapped(GONE, 0x1000, 0x2000)));
        let now = 10 * EXITED_KEPT_NS;
        processes.detect_missed_exits(now);
        processes.remove_exited(now);
        assert!(address(&processes, GONE, 0x1800).is_some());
        processes.remove_exited(now + EXITED_KEPT_NS);
        assert!(!processes.contains(Pid(GONE)));
        assert!(processes.is_current(Pid(std::process::id())));
    }
}
