//! What a process is labelled with: what it executes and which cgroup it is in.
//!
//! Only processes that are sampled are asked about, each once for each file that it executes. That is done when its
//! sample arrives, before the sample's turn has come: it may be gone soon. Who is gone before has its parent's cgroup.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::Arc;

use profile::{Labels, Pid};

use super::Processes;
use super::proc::{read_text, stat};
use crate::labels::{Cgroup, Root, file_name, of_process};

/// Processes that are read about ahead of their samples' turn.
const AHEAD_MAX: usize = 4096;
/// What is kept to be shared; what nobody has any more makes room.
const SHARED_MAX: usize = 4096;
/// A process whose threads are in different cgroups is asked again after so many nanoseconds.
const ASKED_AGAIN_NS: u64 = 1_000_000_000;
/// Parents of parents that are asked in place of a process that is gone.
const ANCESTORS_MAX: usize = 4;

/// What samples of a process say of it beside where they were.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Name of its main thread, if it is known.
    pub comm: Option<Box<str>>,
    /// Its labels, if they are read.
    pub labels: Arc<Labels>,
}

/// How labels of processes were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelCounts {
    /// Cgroups read.
    pub read: u64,
    /// Processes that were gone and have the cgroup of their parent, or their own from before they called exec.
    pub inherited: u64,
    /// Processes that were gone and have none.
    pub unknown: u64,
}

/// What is known of one process.
#[derive(Clone, Debug, Default)]
pub(super) struct Labelling {
    /// File name of its executable; `None`: not known yet. That of a kernel thread is empty.
    executable: Option<Arc<str>>,
    /// It has called exec, and what it maps first is its executable.
    awaits_executable: bool,
    cgroup: Option<Arc<Cgroup>>,
    told: Told,
    /// The cgroup's number in v2, as the sample had it for which it was asked; 0: not known.
    cgroup_id: u64,
    /// Time of that sample.
    asked: u64,
    parent: Option<Pid>,
    labels: Option<Arc<Labels>>,
}

/// Where a cgroup is known from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    /// From the parent or from before the last exec: nobody has asked since.
    #[default]
    Before,
    /// From /proc.
    Proc,
    /// The process was gone: what is known has to do.
    Gone,
}

impl Labelling {
    /// That of a process which this one has forked.
    pub fn child(&self, parent: Pid) -> Self {
        Self { told: Told::Before, parent: Some(parent), ..self.clone() }
    }

    /// Learns that the process executes another file. It may have been moved before: that is how services and
    /// containers are started.
    pub fn exec(&mut self) {
        (self.executable, self.labels, self.told) = (None, None, Told::Before);
        self.awaits_executable = true;
    }

    /// Learns what it has mapped.
    pub fn map(&mut self, path: &str) {
        if self.awaits_executable && path.starts_with('/') {
            self.executable = Some(file_name(path).into());
            self.awaits_executable = false;
        }
    }

    /// Whether to ask about its cgroup, for a sample in this one at this time.
    fn is_due(&self, cgroup_id: u64, time: u64) -> bool {
        match self.told {
            Told::Before => true,
            Told::Gone => false,
            Told::Proc => {
                self.cgroup_id != cgroup_id && time >= self.asked.saturating_add(ASKED_AGAIN_NS)
            }
        }
    }

    fn set(&mut self, told: Told, cgroup: Option<Arc<Cgroup>>, cgroup_id: u64, time: u64) {
        (self.told, self.cgroup, self.labels) = (told, cgroup, None);
        (self.cgroup_id, self.asked) = (cgroup_id, time);
    }
}

/// Asks /proc, and keeps what is the same once.
#[derive(Debug)]
pub(super) struct Labeller {
    root: Root,
    /// What was read ahead of a sample's turn; `None`: the process was gone.
    ahead: HashMap<Pid, Option<Arc<Cgroup>>>,
    cgroups: HashSet<Arc<Cgroup>>,
    labels: HashSet<Arc<Labels>>,
    counts: LabelCounts,
}

impl Labeller {
    fn new(root: Root) -> Self {
        let (ahead, cgroups, labels) = Default::default();
        Self { root, ahead, cgroups, labels, counts: LabelCounts::default() }
    }

    fn prepare(&mut self, pid: Pid) {
        if self.ahead.len() < AHEAD_MAX && !self.ahead.contains_key(&pid) {
            let cgroup = self.read(pid);
            self.ahead.insert(pid, cgroup);
        }
    }

    /// Reads the cgroup of a process; `None` when it is gone.
    fn read(&mut self, pid: Pid) -> Option<Arc<Cgroup>> {
        let text = read_text(&format!("/proc/{pid}/cgroup")).ok()?;
        let cgroup = Cgroup::parse(&text, &self.root)?;
        // Of one that has exited, v1 hierarchies show the root (proc_cgroup_show in the kernel's cgroup.c).
        if &*cgroup.path == "/" && stat(pid.0).is_none_or(|stat| stat.is_zombie) {
            return None;
        }
        self.counts.read += 1;
        Some(shared(&mut self.cgroups, cgroup))
    }

    fn labels(&mut self, pid: Pid, labelling: &mut Labelling) -> Arc<Labels> {
        if let Some(labels) = &labelling.labels {
            return Arc::clone(labels);
        }
        let executable = labelling.executable.get_or_insert_with(|| read_executable(pid));
        let labels = of_process(Some(executable), labelling.cgroup.as_deref());
        let labels = shared(&mut self.labels, labels);
        labelling.labels = Some(Arc::clone(&labels));
        labels
    }
}

impl Processes {
    /// From now on reads labels of processes that are sampled. `root`: where paths of cgroups are told from.
    pub fn enable_labels(&mut self, root: Root) {
        self.labeller = Some(Labeller::new(root));
    }

    /// Reads about a process of which a sample has come that waits for its turn.
    pub fn prepare_labels(&mut self, pid: Pid, cgroup_id: u64, time: u64) {
        let Some(labeller) = &mut self.labeller else { return };
        let known = self.by_pid.get(&pid).map(|process| &process.labelling);
        if pid.0 != 0 && known.is_none_or(|labelling| labelling.is_due(cgroup_id, time)) {
            labeller.prepare(pid);
        }
    }

    /// Says who a process is, for a sample whose turn it is.
    pub fn identity(&mut self, pid: Pid, cgroup_id: u64, time: u64) -> Identity {
        let comm = self.comm(pid).map(Into::into);
        let Some(labeller) = self.labeller.as_mut().filter(|_| pid.0 != 0) else {
            return Identity { comm, labels: Arc::default() };
        };
        let ahead = labeller.ahead.remove(&pid);
        let process = self.by_pid.get_mut(&pid);
        let mut labelling = process.map(|p| std::mem::take(&mut p.labelling)).unwrap_or_default();
        if labelling.is_due(cgroup_id, time) {
            match ahead.unwrap_or_else(|| labeller.read(pid)) {
                Some(cgroup) => labelling.set(Told::Proc, Some(cgroup), cgroup_id, time),
                None => self.inherit(&mut labelling, cgroup_id, time),
            }
        }
        let labels = self.labeller.as_mut().map(|labeller| labeller.labels(pid, &mut labelling));
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.labelling = labelling;
        }
        Identity { comm, labels: labels.unwrap_or_default() }
    }

    /// How labels were found.
    pub fn label_counts(&self) -> LabelCounts {
        self.labeller.as_ref().map(|labeller| labeller.counts).unwrap_or_default()
    }

    /// Takes what is known of a process that is gone, or its parent's cgroup, unless the kernel says that it was another.
    fn inherit(&mut self, labelling: &mut Labelling, cgroup_id: u64, time: u64) {
        let own = labelling.cgroup.clone().map(|cgroup| (cgroup, labelling.cgroup_id));
        let found = own.or_else(|| self.cgroup_of_ancestor(labelling.parent?));
        let found = found.filter(|(_, number)| [0, cgroup_id].contains(number));
        if let Some(labeller) = &mut self.labeller {
            labeller.counts.inherited += u64::from(found.is_some());
            labeller.counts.unknown += u64::from(found.is_none());
        }
        labelling.set(Told::Gone, found.map(|(cgroup, _)| cgroup), cgroup_id, time);
    }

    /// Gives the cgroup of a process or of the nearest one that it comes from, and its number, 0 if that is not known.
    fn cgroup_of_ancestor(&mut self, pid: Pid) -> Option<(Arc<Cgroup>, u64)> {
        let (labeller, mut pid) = (self.labeller.as_mut()?, pid);
        for _ in 0..ANCESTORS_MAX {
            let labelling = &mut self.by_pid.get_mut(&pid)?.labelling;
            if labelling.cgroup.is_none() && labelling.told == Told::Before {
                (labelling.cgroup, labelling.cgroup_id) = (labeller.read(pid), 0);
            }
            if let Some(cgroup) = &labelling.cgroup {
                return Some((Arc::clone(cgroup), labelling.cgroup_id));
            }
            pid = labelling.parent?;
        }
        None
    }
}

/// Gives what equals `new` and others have too. Takes memory for what processes have, and a little more.
fn shared<T: Eq + std::hash::Hash>(all: &mut HashSet<Arc<T>>, new: T) -> Arc<T> {
    if let Some(known) = all.get(&new) {
        return Arc::clone(known);
    }
    if all.len() >= SHARED_MAX {
        all.retain(|known| Arc::strong_count(known) > 1);
    }
    let new = Arc::new(new);
    if all.len() < SHARED_MAX {
        all.insert(Arc::clone(&new));
    }
    new
}

/// Asks what a process executes: nothing for a kernel thread, and for what is gone.
fn read_executable(pid: Pid) -> Arc<str> {
    let link = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    file_name(&link.to_string_lossy()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{CommEvent, Event, FileIdentity, ForkEvent, MmapEvent, TimedEvent};
    use crate::processes::Executables;
    use profile::{Tid, VirtAddr};

    const GONE: Pid = Pid(0x7fff_fff0);
    const OUR_CGROUP: u64 = 17;

    fn us() -> Pid {
        Pid(std::process::id())
    }

    fn processes() -> Processes {
        let mut processes = Processes::new(Executables::new(16, ""));
        processes.enable_labels(Root::default());
        processes.refresh(us());
        processes
    }

    fn apply(processes: &mut Processes, event: Event) {
        processes.apply(TimedEvent { time: u64::MAX >> 1, event });
    }

    fn fork(processes: &mut Processes, pid: Pid, parent: Pid) {
        apply(processes, Event::Fork(ForkEvent { pid, parent }));
    }

    fn exec(processes: &mut Processes, pid: Pid, path: &str) {
        let (tid, comm) = (Tid(pid.0), "renamed".into());
        apply(processes, Event::Comm(CommEvent { pid, tid, comm, is_exec: true }));
        for path in ["[vdso]", path, "/lib/ld.so"] {
            apply(
                processes,
                Event::Mmap(MmapEvent {
                    pid,
                    tid,
                    start: VirtAddr(0x1000),
                    end: VirtAddr(0x2000),
                    offset: 0,
                    file: FileIdentity::default(),
                    path: path.into(),
                }),
            );
        }
    }

    fn own_cgroup() -> String {
        let text = read_text("/proc/self/cgroup").expect("we run");
        Cgroup::parse(&text, &Root::default()).expect("we are in one").path.into()
    }

    #[test]
    fn a_running_process_is_read_once_for_all_its_samples() {
        let mut processes = processes();
        let first = processes.identity(us(), OUR_CGROUP, 1);
        let path = std::env::current_exe().expect("a file");
        assert_eq!(first.labels.get("executable"), path.file_name().and_then(|name| name.to_str()));
        assert_eq!(first.labels.get("cgroup"), Some(own_cgroup().as_str()));
        let again = processes.identity(us(), OUR_CGROUP, 2);
        assert!(Arc::ptr_eq(&first.labels, &again.labels));
        assert_eq!(processes.label_counts(), LabelCounts { read: 1, ..LabelCounts::default() });
    }

    #[test]
    fn a_process_that_is_gone_has_its_parents_cgroup_though_that_was_never_sampled() {
        let mut processes = processes();
        fork(&mut processes, GONE, us());
        fork(&mut processes, Pid(GONE.0 + 1), GONE);
        exec(&mut processes, Pid(GONE.0 + 1), "/opt/x/worker (deleted)");
        let labels = processes.identity(Pid(GONE.0 + 1), OUR_CGROUP, 1).labels;
        let own = own_cgroup();
        assert_eq!(*labels, Labels::from([("cgroup", own.as_str()), ("executable", "worker")]));
        let expected = LabelCounts { read: 1, inherited: 1, unknown: 0 };
        assert_eq!(processes.label_counts(), expected);
    }

    #[test]
    fn it_has_none_when_the_kernel_says_that_it_was_in_another() {
        let mut processes = processes();
        processes.identity(us(), OUR_CGROUP, 1);
        fork(&mut processes, GONE, us());
        exec(&mut processes, GONE, "/opt/x/worker");
        let labels = processes.identity(GONE, OUR_CGROUP + 1, 2).labels;
        assert_eq!(*labels, Labels::from([("executable", "worker")]));
        processes.identity(GONE, OUR_CGROUP + 1, 3);
        assert_eq!(processes.label_counts().unknown, 1);
    }

    #[test]
    fn who_is_there_when_the_sample_arrives_may_be_gone_when_its_turn_comes() {
        let mut processes = processes();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("it starts");
        let pid = Pid(child.id());
        processes.prepare_labels(pid, OUR_CGROUP, 1);
        child.kill().and_then(|()| child.wait()).expect("it ends");
        fork(&mut processes, pid, Pid(0));
        let labels = processes.identity(pid, OUR_CGROUP, 1).labels;
        assert_eq!(labels.get("cgroup"), Some(own_cgroup().as_str()));
        assert_eq!(processes.label_counts(), LabelCounts { read: 1, ..LabelCounts::default() });
    }

    #[test]
    fn a_process_that_was_moved_is_read_again_but_not_for_each_sample() {
        let mut processes = processes();
        let read = |processes: &mut Processes, cgroup_id, time| {
            processes.identity(us(), cgroup_id, time);
            processes.label_counts().read
        };
        assert_eq!(read(&mut processes, 1, 0), 1);
        assert_eq!(read(&mut processes, 2, ASKED_AGAIN_NS), 2);
        for time in 1..100 {
            assert_eq!(read(&mut processes, time % 2, ASKED_AGAIN_NS + time), 2);
        }
        assert_eq!(read(&mut processes, 2, 3 * ASKED_AGAIN_NS), 2);
        assert_eq!(read(&mut processes, 1, 3 * ASKED_AGAIN_NS), 3);
    }

    #[test]
    fn what_nobody_has_any_more_makes_room() {
        let mut all = HashSet::new();
        let held: Vec<Arc<usize>> = (0..100).map(|number| shared(&mut all, number)).collect();
        for number in 0..10 * SHARED_MAX {
            shared(&mut all, number);
            assert!(all.len() <= SHARED_MAX);
        }
        for (number, held) in held.iter().enumerate() {
            assert!(Arc::ptr_eq(held, &shared(&mut all, number)));
        }
    }

    #[test]
    fn a_kernel_thread_is_in_a_cgroup_and_executes_nothing() {
        const KTHREADD: Pid = Pid(2);
        let mut processes = processes();
        let labels = processes.identity(KTHREADD, 1, 1).labels;
        assert_eq!(*labels, Labels::from([("cgroup", "/")]));
    }

    #[test]
    fn nobody_is_read_about_when_nobody_wants_labels() {
        let mut processes = Processes::new(Executables::new(16, ""));
        processes.prepare_labels(us(), 1, 1);
        assert_eq!(*processes.identity(us(), 1, 1).labels, Labels::default());
        assert_eq!(processes.label_counts(), LabelCounts::default());
    }
}
