//! Station 2: which process had what mapped, at the time of each sample.
//!
//! [`Processes`] is fed events in the order of time, after one pass over /proc
//! ([`scan()`]). It answers where an address lies: in which executable and where in it.
//! Executables are opened the moment the kernel tells of them, so that what exits or
//! is deleted later can still be named.

mod elf;
mod executables;
mod mappings;
pub mod proc;
mod scan;

use std::collections::{HashMap, HashSet, VecDeque};

use profile::Pid;

use crate::events::{Event, Exited, Mapped, Named, Started};
pub use executables::{Executable, Executables, Origin};
pub use mappings::{Mapping, Memory};
pub use scan::{Scanned, scan, scan_process};

/// Processes that have exited are kept until there are this many: threads of theirs may
/// still run, and samples may still come.
const EXITED_KEPT: usize = 1024;
/// Processes known at once. What comes on top is not known, and its frames have no place.
const PROCESSES_MAX: usize = 1 << 18;

/// All processes and what they have mapped. Fed with events, it knows one moment in time.
#[derive(Debug)]
pub struct Processes {
    by_pid: HashMap<Pid, Process>,
    exited: VecDeque<Pid>,
    changed: HashSet<Pid>,
    /// The files behind the mappings.
    pub executables: Executables,
}

#[derive(Clone, Debug, Default)]
struct Process {
    comm: Box<str>,
    memory: Memory,
    has_exited: bool,
}

impl Processes {
    /// Knows no process yet.
    pub fn new(executables: Executables) -> Self {
        let (by_pid, exited, changed) = (HashMap::new(), VecDeque::new(), HashSet::new());
        Self { by_pid, exited, changed, executables }
    }

    /// Opens the file behind a new mapping while its process still lives: before the
    /// event's turn has come.
    pub fn prepare(&mut self, mapped: &Mapped) {
        self.executables.find_or_open(mapped);
    }

    /// Learns of an event. Samples are no news.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Started(started) => self.start(started),
            Event::Named(named) => self.name(named),
            Event::Mapped(mapped) => self.map(&mapped),
            Event::Exited(exited) => self.exit(exited),
            Event::Sample(_) | Event::PerfSample(_) => {}
        }
    }

    /// Learns what /proc told of a process.
    pub fn learn(&mut self, scanned: &Scanned) {
        let mut process = Process { comm: scanned.comm.clone(), ..Process::default() };
        for mapped in &scanned.mappings {
            let executable = self.executables.find_or_open(mapped);
            process.memory.insert(mapped, executable);
        }
        self.insert(scanned.pid, process);
    }

    /// Says whether a process is known.
    pub fn knows(&self, pid: Pid) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// Gives the name of a process: `comm` of its main thread.
    pub fn comm(&self, pid: Pid) -> Option<&str> {
        self.by_pid.get(&pid).map(|process| &*process.comm).filter(|comm| !comm.is_empty())
    }

    /// Gives what a process has mapped by now; nothing if it is not known.
    pub fn memory(&self, pid: Pid) -> Memory {
        self.by_pid.get(&pid).map(|process| process.memory.clone()).unwrap_or_default()
    }

    /// Gives the processes whose mappings have changed since this was last asked, the forgotten among them.
    pub fn take_changed(&mut self) -> HashSet<Pid> {
        std::mem::take(&mut self.changed)
    }

    fn start(&mut self, started: Started) {
        if started.pid == started.parent {
            return; // a thread
        }
        let parent = self.by_pid.get(&started.parent).cloned().unwrap_or_default();
        self.insert(started.pid, Process { has_exited: false, ..parent });
    }

    fn name(&mut self, named: Named) {
        if !named.is_exec && named.tid.0 != named.pid.0 {
            return; // a thread's own name; its samples bring it
        }
        let Some(process) = self.entry(named.pid) else { return };
        process.comm = named.comm;
        if named.is_exec {
            process.memory = Memory::default();
        }
    }

    fn map(&mut self, mapped: &Mapped) {
        let executable = self.executables.find_or_open(mapped);
        if let Some(process) = self.entry(mapped.pid) {
            process.memory.insert(mapped, executable);
        }
    }

    fn exit(&mut self, exited: Exited) {
        if exited.tid.0 != exited.pid.0 {
            return;
        }
        if let Some(process) = self.by_pid.get_mut(&exited.pid) {
            process.has_exited = true;
            self.exited.push_back(exited.pid);
        }
        while self.exited.len() > EXITED_KEPT {
            let oldest = self.exited.pop_front();
            // The number may belong to a new process by now.
            let is_gone =
                |pid: &Pid| self.by_pid.get(pid).is_some_and(|process| process.has_exited);
            if let Some(pid) = oldest.filter(is_gone) {
                self.by_pid.remove(&pid);
                self.changed.insert(pid);
            }
        }
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
        Some(self.by_pid.entry(pid).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::FileIdentity;
    use profile::{FileAddr, Tid, VirtAddr};

    fn mapped(pid: u32, start: u64, end: u64) -> Event {
        Event::Mapped(Mapped {
            pid: Pid(pid),
            start: VirtAddr(start),
            end: VirtAddr(end),
            offset: 0,
            file: FileIdentity::Inode { major: 0, minor: 0, inode: 0 },
            path: "//anon".into(),
        })
    }

    fn named(pid: u32, comm: &str, is_exec: bool) -> Event {
        Event::Named(Named { pid: Pid(pid), tid: Tid(pid), comm: comm.into(), is_exec })
    }

    fn known() -> Processes {
        let mut processes = Processes::new(Executables::new(16));
        processes.apply(named(10, "parent", true));
        processes.apply(mapped(10, 0x1000, 0x2000));
        processes
    }

    fn address(processes: &Processes, pid: u32, at: u64) -> Option<FileAddr> {
        let memory = processes.memory(Pid(pid));
        processes.executables.resolve(&memory, VirtAddr(at)).map(|frame| frame.address)
    }

    #[test]
    fn a_forked_child_has_its_parents_memory_until_it_execs() {
        let mut processes = known();
        processes.apply(Event::Started(Started { pid: Pid(11), parent: Pid(10) }));
        assert_eq!(address(&processes, 11, 0x1800), Some(FileAddr(0x1800)));
        assert_eq!(processes.comm(Pid(11)), Some("parent"));

        processes.apply(named(11, "child", true));
        assert_eq!(address(&processes, 11, 0x1800), None);
        assert_eq!(processes.comm(Pid(11)), Some("child"));
        assert_eq!(address(&processes, 10, 0x1800), Some(FileAddr(0x1800)));
    }

    #[test]
    fn threads_share_the_process() {
        let mut processes = known();
        processes.apply(Event::Started(Started { pid: Pid(10), parent: Pid(10) }));
        let thread = Named { pid: Pid(10), tid: Tid(12), comm: "worker".into(), is_exec: false };
        processes.apply(Event::Named(thread));
        assert_eq!(processes.comm(Pid(10)), Some("parent"));
        assert_eq!(address(&processes, 10, 0x1000), Some(FileAddr(0x1000)));
    }

    #[test]
    fn samples_that_come_after_the_main_thread_has_gone_are_resolved() {
        let mut processes = known();
        processes.apply(Event::Exited(Exited { pid: Pid(10), tid: Tid(10) }));
        assert_eq!(address(&processes, 10, 0x1fff), Some(FileAddr(0x1fff)));
    }

    #[test]
    fn exited_processes_are_forgotten_oldest_first() {
        let mut processes = known();
        processes.apply(Event::Exited(Exited { pid: Pid(10), tid: Tid(10) }));
        for pid in 100..100 + EXITED_KEPT as u32 {
            processes.apply(named(pid, "short", true));
            processes.apply(Event::Exited(Exited { pid: Pid(pid), tid: Tid(pid) }));
        }
        assert!(!processes.knows(Pid(10)));
        assert!(processes.knows(Pid(100)));
    }
}
