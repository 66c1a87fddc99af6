//! Identifies the process of a sample: its name and its labels.

use std::sync::Arc;

use profile::{Labels, Pid, Tid};

use super::labelling::{CgroupSource, LabelCounts, Labeller, ProcessLabels};
use super::process_table::Processes;
use super::thread_names::ThreadNames;
use crate::labels::{Cgroup, Root};

/// Ancestors whose cgroup an exited process may get.
const ANCESTORS_MAX: usize = 4;

/// What identifies a sample's process in a profile.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Name of its main thread, if known.
    pub comm: Option<Box<str>>,
    /// Name of the thread; `None` if samples carry it.
    pub thread: Option<Box<str>>,
    /// Its labels; empty unless they are enabled.
    pub labels: Arc<Labels>,
}

impl Processes {
    /// Reads the labels of sampled processes from now on. `root`: where the paths of cgroups begin.
    pub fn enable_labels(&mut self, root: Root) {
        self.labeller = Some(Labeller::new(root));
    }

    /// Determines the names of threads from now on: samples do not carry them.
    pub fn enable_thread_names(&mut self) {
        self.thread_names = Some(ThreadNames::default());
    }

    /// Reads the cgroup of a process whose sample has arrived but is not due yet. `tid`: the
    /// sampled thread.
    pub fn prepare_labels(&mut self, pid: Pid, tid: Tid, cgroup_id: u64, time: u64) {
        let Some(labeller) = &mut self.labeller else { return };
        let labels = self.by_pid.get(&pid).map(|process| &process.labels);
        if pid.0 != 0 && labels.is_none_or(|labels| labels.is_due(cgroup_id, time)) {
            labeller.read_ahead(pid, tid);
        }
    }

    /// Returns the identity of a process for a sample of the thread `tid` whose turn it is.
    pub fn identity(&mut self, pid: Pid, tid: Tid, cgroup_id: u64, time: u64) -> Identity {
        let comm = self.comm(pid).map(Into::into);
        let names = self.thread_names.as_mut();
        let thread = names.map(|names| names.name(pid, tid, comm.as_deref()));
        let Some(labeller) = self.labeller.as_mut().filter(|_| pid.0 != 0) else {
            return Identity { comm, thread, labels: self.command_line(pid, tid) };
        };
        let ahead = labeller.take_ahead(pid);
        let process = self.by_pid.get_mut(&pid);
        let mut labels = process.map(|p| std::mem::take(&mut p.labels)).unwrap_or_default();
        if labels.is_due(cgroup_id, time) {
            match ahead.unwrap_or_else(|| labeller.read_cgroup(pid, tid)) {
                Some(cgroup) => {
                    labels.set_cgroup(CgroupSource::Procfs, Some(cgroup), cgroup_id, time);
                }
                None => self.inherit_cgroup(&mut labels, cgroup_id, time),
            }
        }
        let found = self.labeller.as_mut().map(|labeller| labeller.labels(pid, tid, &mut labels));
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.labels = labels;
        }
        Identity { comm, thread, labels: found.unwrap_or_default() }
    }

    /// Returns how labels were found.
    pub fn label_counts(&self) -> LabelCounts {
        self.labeller.as_ref().map(|labeller| labeller.counts).unwrap_or_default()
    }

    /// Assigns an exited process the cgroup that it had before exec, or that of its parent, unless
    /// the ID in the sample proves that it was in another.
    fn inherit_cgroup(&mut self, labels: &mut ProcessLabels, cgroup_id: u64, time: u64) {
        let own = labels.cgroup.clone().map(|cgroup| (cgroup, labels.cgroup_id));
        let found = own.or_else(|| self.cgroup_of_ancestor(labels.parent?));
        let found = found.filter(|(_, id)| [0, cgroup_id].contains(id));
        if let Some(labeller) = &mut self.labeller {
            labeller.counts.inherited += u64::from(found.is_some());
            labeller.counts.unknown += u64::from(found.is_none());
        }
        let cgroup = found.map(|(cgroup, _)| cgroup);
        labels.set_cgroup(CgroupSource::Exited, cgroup, cgroup_id, time);
    }

    /// Returns the cgroup of a process or of its nearest known ancestor, and the cgroup's ID, 0 if
    /// unknown.
    fn cgroup_of_ancestor(&mut self, mut pid: Pid) -> Option<(Arc<Cgroup>, u64)> {
        let labeller = self.labeller.as_mut()?;
        for _ in 0..ANCESTORS_MAX {
            let labels = &mut self.by_pid.get_mut(&pid)?.labels;
            if labels.cgroup.is_none() && labels.source == CgroupSource::Inherited {
                (labels.cgroup, labels.cgroup_id) = (labeller.read_cgroup(pid, Tid(pid.0)), 0);
            }
            if let Some(cgroup) = &labels.cgroup {
                return Some((Arc::clone(cgroup), labels.cgroup_id));
            }
            pid = labels.parent?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{CommEvent, Event, FileIdentity, ForkEvent, MmapEvent, TimedEvent};
    use crate::processes::Executables;
    use crate::processes::labelling::REREAD_AFTER_NS;
    use crate::procfs;
    use profile::VirtAddr;

    const EXITED: Pid = Pid(0x7fff_fff0);
    const OWN_CGROUP: u64 = 17;

    fn own_pid() -> Pid {
        Pid(std::process::id())
    }

    /// Returns the main thread of a process.
    fn tid_of(pid: Pid) -> Tid {
        Tid(pid.0)
    }

    fn processes() -> Processes {
        let mut processes = Processes::new(Executables::new(16, 64 << 20, ""));
        processes.enable_labels(Root::default());
        processes.refresh(own_pid());
        processes
    }

    fn apply(processes: &mut Processes, event: Event) {
        processes.apply(TimedEvent { time: u64::MAX >> 1, event });
    }

    fn fork(processes: &mut Processes, pid: Pid, parent: Pid) {
        let (tid, parent_tid) = (Tid(pid.0), Tid(parent.0));
        apply(processes, Event::Fork(ForkEvent { pid, tid, parent, parent_tid }));
    }

    fn exec(processes: &mut Processes, pid: Pid, path: &str) {
        let (tid, comm) = (Tid(pid.0), "renamed".into());
        apply(processes, Event::Comm(CommEvent { pid, tid, comm, is_exec: true }));
        for path in ["[vdso]", path, "/lib/ld.so"] {
            let mapped = MmapEvent {
                pid,
                tid,
                start: VirtAddr(0x1000),
                end: VirtAddr(0x2000),
                offset: 0,
                file: FileIdentity::default(),
                path: path.into(),
            };
            apply(processes, Event::Mmap(mapped));
        }
    }

    fn own_cgroup() -> String {
        let text = procfs::read_text("/proc/self/cgroup").expect("it runs");
        Cgroup::parse(&text, &Root::default()).expect("it is in a cgroup").path.into()
    }

    #[test]
    fn a_running_process_is_read_once_for_all_its_samples() {
        let mut processes = processes();
        let first = processes.identity(own_pid(), tid_of(own_pid()), OWN_CGROUP, 1);
        let path = std::env::current_exe().expect("it has a file");
        assert_eq!(first.labels.get("executable"), path.file_name().and_then(|name| name.to_str()));
        assert_eq!(first.labels.get("cgroup"), Some(own_cgroup().as_str()));
        let second = processes.identity(own_pid(), tid_of(own_pid()), OWN_CGROUP, 2);
        assert!(Arc::ptr_eq(&first.labels, &second.labels));
        assert_eq!(processes.label_counts(), LabelCounts { read: 1, ..LabelCounts::default() });
    }

    #[test]
    fn an_exited_process_has_the_cgroup_of_an_unsampled_ancestor() {
        let mut processes = processes();
        let grandchild = Pid(EXITED.0 + 1);
        fork(&mut processes, EXITED, own_pid());
        fork(&mut processes, grandchild, EXITED);
        exec(&mut processes, grandchild, "/opt/x/worker (deleted)");
        let labels = processes.identity(grandchild, tid_of(grandchild), OWN_CGROUP, 1).labels;
        let own = own_cgroup();
        assert_eq!(*labels, Labels::from([("cgroup", own.as_str()), ("executable", "worker")]));
        let expected = LabelCounts { read: 1, inherited: 1, unknown: 0 };
        assert_eq!(processes.label_counts(), expected);
    }

    #[test]
    fn an_exited_process_in_another_cgroup_than_its_parent_has_none() {
        let mut processes = processes();
        processes.identity(own_pid(), tid_of(own_pid()), OWN_CGROUP, 1);
        fork(&mut processes, EXITED, own_pid());
        exec(&mut processes, EXITED, "/opt/x/worker");
        let labels = processes.identity(EXITED, tid_of(EXITED), OWN_CGROUP + 1, 2).labels;
        assert_eq!(*labels, Labels::from([("executable", "worker")]));
        processes.identity(EXITED, tid_of(EXITED), OWN_CGROUP + 1, 3);
        assert_eq!(processes.label_counts().unknown, 1);
    }

    #[test]
    fn a_process_may_exit_between_its_samples_arrival_and_turn() {
        let mut processes = processes();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("it starts");
        let pid = Pid(child.id());
        processes.prepare_labels(pid, tid_of(pid), OWN_CGROUP, 1);
        child.kill().and_then(|()| child.wait()).expect("it exits");
        fork(&mut processes, pid, Pid(0));
        let labels = processes.identity(pid, tid_of(pid), OWN_CGROUP, 1).labels;
        assert_eq!(labels.get("cgroup"), Some(own_cgroup().as_str()));
        assert_eq!(processes.label_counts(), LabelCounts { read: 1, ..LabelCounts::default() });
    }

    #[test]
    fn a_moved_process_is_read_again_but_not_for_each_sample() {
        let mut processes = processes();
        let mut check = |cgroup_id, time, reads| {
            processes.identity(own_pid(), tid_of(own_pid()), cgroup_id, time);
            assert_eq!(processes.label_counts().read, reads, "at {time}");
        };
        check(1, 0, 1);
        check(2, REREAD_AFTER_NS, 2);
        for time in 1..100 {
            check(time % 2, REREAD_AFTER_NS + time, 2);
        }
        check(2, 3 * REREAD_AFTER_NS, 2);
        check(1, 3 * REREAD_AFTER_NS, 3);
    }

    #[test]
    fn a_kernel_thread_has_a_cgroup_and_no_executable() {
        const KTHREADD: Pid = Pid(2);
        let mut processes = processes();
        let labels = processes.identity(KTHREADD, tid_of(KTHREADD), 1, 1).labels;
        assert_eq!(*labels, Labels::from([("cgroup", "/")]));
    }

    #[test]
    fn nothing_is_read_unless_labels_are_enabled() {
        let mut processes = Processes::new(Executables::new(16, 64 << 20, ""));
        processes.prepare_labels(own_pid(), tid_of(own_pid()), 1, 1);
        assert_eq!(
            *processes.identity(own_pid(), tid_of(own_pid()), 1, 1).labels,
            Labels::default()
        );
        assert_eq!(processes.label_counts(), LabelCounts::default());
    }
}
