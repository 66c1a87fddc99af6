//! Applies the kernel's events to processes: fork, comm and exec, mmap, exit.

use std::ops::Bound;

use profile::Pid;
use rustix::io::Errno;

use super::copy_sources::CopySources;
use super::mappings::AddressSpace;
use super::owners::is_kept_by_exec;
use super::process_table::{Process, Processes};
use crate::events::{CommEvent, Event, ExitEvent, ForkEvent, MmapEvent, TimedEvent};

/// How long an exited process is kept, in nanoseconds: its exit takes a while and is sampled.
const EXITED_RETENTION_NS: u64 = 1_000_000_000;
/// Exited processes that are kept at most.
const EXITED_MAX: usize = 4096;
/// Processes whose existence is checked in one round.
const CHECKS_PER_ROUND: usize = 64;
/// Stale processes that are read from procfs in one round.
const REFRESHES_PER_ROUND: usize = 8;

impl Processes {
    /// Applies an event. Samples change nothing, nor does what procfs has already shown.
    pub fn apply(&mut self, TimedEvent { time, event }: TimedEvent) {
        if let Some(names) = &mut self.thread_names {
            names.apply(&event);
        }
        let is_new = |pid| self.by_pid.get(&pid).is_none_or(|process| time >= process.since);
        match event {
            Event::Fork(fork) if is_new(fork.pid) => self.apply_fork(time, fork),
            Event::Comm(comm) if is_new(comm.pid) => self.apply_comm(time, comm),
            Event::Mmap(mapped) if is_new(mapped.pid) => self.apply_mmap(&mapped),
            Event::Move(moved) if is_new(moved.pid) => {
                self.invalidate_process_before(moved.pid, time);
                self.changed.insert(moved.pid);
            }
            Event::Exit(exit) if is_new(exit.pid) => self.apply_exit(time, exit),
            Event::KernelCode(code) => {
                self.kernel_symbols.apply(time, code, &mut self.perf_maps.names);
            }
            _ => {}
        }
    }

    /// Removes processes that exited some time before `now`, up to which all samples are counted.
    pub fn remove_exited(&mut self, now: u64) {
        while let Some((time, pid)) = self.exited.front().copied() {
            if time + EXITED_RETENTION_NS > now && self.exited.len() <= EXITED_MAX {
                break;
            }
            self.exited.pop_front();
            // The number may belong to a new process by now.
            if self.by_pid.get(&pid).is_some_and(|process| process.threads == 0) {
                self.remove(pid);
            }
        }
    }

    /// Checks whether some of the processes still exist: the event of their exit may have been
    /// missed. One that does not has exited at `now` and is kept as long as others, because samples
    /// of it may wait for their turn. Some stale processes are refreshed, so that the files they
    /// had mapped are not held open for nothing.
    pub fn detect_missed_exits(&mut self, now: u64) {
        let after = (Bound::Excluded(self.last_checked), Bound::Unbounded);
        let checked: Vec<Pid> =
            self.by_pid.range(after).take(CHECKS_PER_ROUND).map(|(pid, _)| *pid).collect();
        self.last_checked = checked.last().copied().unwrap_or(Pid(0));
        let stale = checked.iter().copied().filter(|pid| self.is_stale(*pid));
        let stale: Vec<Pid> = stale.take(REFRESHES_PER_ROUND).collect();
        stale.into_iter().for_each(|pid| self.refresh(pid));
        for pid in checked.into_iter().filter(|pid| !exists(*pid)) {
            if let Some(process) = self.by_pid.get_mut(&pid) {
                process.threads = 0;
                self.exited.push_back((now, pid));
            }
        }
    }

    fn apply_fork(&mut self, time: u64, fork: ForkEvent) {
        if fork.pid == fork.parent {
            if let Some(process) = self.by_pid.get_mut(&fork.pid) {
                process.threads += 1;
            }
            return;
        }
        // Of a process that had the number before.
        self.perf_maps.remove(fork.pid);
        self.interpreters.remove(fork.pid);
        self.refresh(fork.parent);
        let since = if self.is_current(fork.parent) { time } else { 0 };
        let child = match self.by_pid.get(&fork.parent).filter(|_| !self.is_stale(fork.parent)) {
            Some(parent) => parent.fork(fork.parent, since),
            None => Process::unread(&self.executables),
        };
        self.insert(fork.pid, child);
    }

    fn apply_comm(&mut self, time: u64, comm: CommEvent) {
        if !comm.is_exec && comm.tid.0 != comm.pid.0 {
            return; // the name of a thread, which its samples carry
        }
        if comm.is_exec {
            self.finish_perf_map(comm.pid);
            self.perf_maps.remove(comm.pid);
            self.interpreters.remove(comm.pid);
        }
        let memory = self.executables.memory.clone();
        let Some(process) = self.entry(comm.pid) else { return };
        process.comm = comm.comm;
        if comm.is_exec {
            process.address_space = AddressSpace::new(memory.empty_charge(process.owner));
            (process.threads, process.since) = (1, time);
            process.labels.apply_exec();
            process.command_line = None;
            process.copy_sources = CopySources::default();
            process.jit_dump = None;
            process.is_owner_read &= is_kept_by_exec(process.owner);
        }
    }

    fn apply_mmap(&mut self, mapped: &MmapEvent) {
        let executable = self.executables.find(mapped);
        let executable = executable.or_else(|| self.executable_of_new(mapped));
        let MmapEvent { pid, tid, start, end, .. } = *mapped;
        let is_opaque = executable.is_some_and(|id| self.executables.is_opaque(id));
        if is_opaque {
            self.note_replaced(pid, start, end);
        }
        self.insert_mapping(mapped, executable);
        if is_opaque {
            self.recognize_copied_text(pid, tid, start.0, end.0);
        }
        self.note_jit_dump(mapped);
        if let Some(process) = self.by_pid.get_mut(&mapped.pid) {
            process.labels.apply_mmap(&mapped.path);
        }
    }

    fn apply_exit(&mut self, time: u64, exit: ExitEvent) {
        let Some(process) = self.by_pid.get_mut(&exit.pid) else { return };
        process.threads = process.threads.saturating_sub(1);
        if process.threads == 0 {
            self.exited.push_back((time, exit.pid));
            self.finish_perf_map(exit.pid);
            self.interpreters.remove(exit.pid);
        }
    }
}

fn exists(pid: Pid) -> bool {
    let answer =
        rustix::process::Pid::from_raw(pid.0 as i32).map(rustix::process::test_kill_process);
    answer != Some(Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{FileIdentity, MoveEvent};
    use crate::processes::Executables;
    use profile::{FileAddr, Tid, VirtAddr};

    const PARENT: u32 = 10;
    const CHILD: u32 = 11;

    fn mmap(pid: u32, start: u64, end: u64) -> Event {
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

    fn exec(pid: u32, comm: &str) -> Event {
        Event::Comm(CommEvent { pid: Pid(pid), tid: Tid(pid), comm: comm.into(), is_exec: true })
    }

    fn fork(pid: u32, parent: u32) -> Event {
        let (tid, parent_tid) = (Tid(pid), Tid(parent));
        Event::Fork(ForkEvent { pid: Pid(pid), tid, parent: Pid(parent), parent_tid })
    }

    fn exit(pid: u32, tid: u32) -> Event {
        Event::Exit(ExitEvent { pid: Pid(pid), tid: Tid(tid) })
    }

    /// One process, with memory from 0x1000 to 0x2000.
    struct Story(Processes);

    impl Story {
        fn new() -> Self {
            let mut story = Self(Processes::new(Executables::new(16, 64 << 20, "")));
            story.apply(1, exec(PARENT, "parent"));
            story.apply(1, mmap(PARENT, 0x1000, 0x2000));
            story
        }

        fn apply(&mut self, time: u64, event: Event) {
            self.0.apply(TimedEvent { time, event });
        }

        fn is_mapped(&self, pid: u32) -> bool {
            let address_space = self.0.address_space(Pid(pid));
            let frame = self.0.executables.resolve(&address_space, VirtAddr(0x1800));
            frame.is_some_and(|frame| frame.address == FileAddr(0x1800))
        }

        fn comm(&self, pid: u32) -> Option<&str> {
            self.0.comm(Pid(pid))
        }
    }

    #[test]
    fn a_child_has_the_memory_of_its_parent_until_exec() {
        let mut story = Story::new();
        story.apply(1, fork(CHILD, PARENT));
        assert!(story.is_mapped(CHILD));
        assert_eq!(story.comm(CHILD), Some("parent"));

        story.apply(1, exec(CHILD, "child"));
        assert!(!story.is_mapped(CHILD) && story.is_mapped(PARENT));
        assert_eq!(story.comm(CHILD), Some("child"));
    }

    #[test]
    fn threads_share_the_process() {
        let mut story = Story::new();
        story.apply(1, fork(PARENT, PARENT));
        let (pid, tid, comm) = (Pid(PARENT), Tid(12), "thread".into());
        story.apply(1, Event::Comm(CommEvent { pid, tid, comm, is_exec: false }));
        assert_eq!(story.comm(PARENT), Some("parent"));
        assert!(story.is_mapped(PARENT));
    }

    #[test]
    fn a_process_outlives_its_main_thread() {
        let mut story = Story::new();
        story.apply(2, fork(PARENT, PARENT));
        story.apply(3, exit(PARENT, PARENT));
        story.0.remove_exited(3 + 2 * EXITED_RETENTION_NS);
        assert!(story.is_mapped(PARENT));
        story.apply(4 + 2 * EXITED_RETENTION_NS, exit(PARENT, 12));
        story.0.remove_exited(4 + 4 * EXITED_RETENTION_NS);
        assert!(!story.is_mapped(PARENT));
    }

    #[test]
    fn samples_right_after_the_exit_are_resolved() {
        let mut story = Story::new();
        story.apply(2, exit(PARENT, PARENT));
        story.0.remove_exited(3);
        assert!(story.is_mapped(PARENT));
    }

    #[test]
    fn the_oldest_exited_processes_are_removed_first() {
        let mut story = Story::new();
        story.apply(2, exit(PARENT, PARENT));
        for pid in 100..100 + EXITED_MAX as u32 {
            story.apply(3, exec(pid, "short"));
            story.apply(3, exit(pid, pid));
        }
        story.0.remove_exited(3);
        assert!(!story.0.is_current(Pid(PARENT)));
        assert!(story.0.is_current(Pid(101)));
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let mut story = Story::new();
        story.apply(2, exit(PARENT, PARENT));
        story.apply(3, fork(PARENT, 1 << 30));
        assert!(!story.is_mapped(PARENT));
        story.apply(3, exec(PARENT, "second"));
        story.0.remove_exited(3 + 2 * EXITED_RETENTION_NS);
        assert_eq!(story.comm(PARENT), Some("second"));
    }

    #[test]
    fn missed_events_make_processes_stale_until_exec() {
        let mut story = Story::new();
        story.0.invalidate_before(5);
        assert!(!story.0.is_current(Pid(PARENT)) && story.0.is_stale(Pid(PARENT)));
        story.apply(6, exec(PARENT, "again"));
        assert!(story.0.is_current(Pid(PARENT)) && !story.0.is_stale(Pid(PARENT)));
    }

    #[test]
    fn moved_code_makes_a_process_stale_from_its_time_on() {
        let mut story = Story::new();
        story.0.take_changed();
        let moved = MoveEvent { pid: Pid(PARENT), missed: 0 };
        story.apply(5, Event::Move(moved));
        assert!(story.0.is_stale(Pid(PARENT)) && !story.is_mapped(PARENT));
        assert!(story.0.take_changed().contains(&Pid(PARENT)), "the published mappings are stale");
        story.apply(6, exec(PARENT, "again"));
        story.apply(5, Event::Move(moved));
        assert!(story.0.is_current(Pid(PARENT)), "it moved in the program before");
    }

    #[test]
    fn events_before_the_scan_change_nothing() {
        let mut story = Story::new();
        let own_pid = std::process::id();
        story.0.refresh(Pid(own_pid));
        let since = crate::events::now();
        assert!(story.0.is_current(Pid(own_pid)));
        story.apply(1, exec(own_pid, "before"));
        assert_ne!(story.comm(own_pid), Some("before"));
        story.apply(since, exec(own_pid, "after"));
        assert_eq!(story.comm(own_pid), Some("after"));
    }

    #[test]
    fn a_missed_exit_is_detected_and_samples_are_resolved_for_a_while() {
        const MISSING: u32 = 0x7fff_fff0;
        let mut story = Story::new();
        story.apply(1, exec(std::process::id(), "own"));
        story.apply(1, exec(MISSING, "missing"));
        story.apply(1, mmap(MISSING, 0x1000, 0x2000));
        let now = 10 * EXITED_RETENTION_NS;
        story.0.detect_missed_exits(now);
        story.0.remove_exited(now);
        assert!(story.is_mapped(MISSING));
        story.0.remove_exited(now + EXITED_RETENTION_NS);
        assert!(!story.0.contains(Pid(MISSING)));
        assert!(story.0.is_current(Pid(std::process::id())));
    }
}
