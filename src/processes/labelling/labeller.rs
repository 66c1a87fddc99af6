//! Reads cgroups and executables from procfs.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use profile::{Labels, Pid, Tid};

use super::process_labels::ProcessLabels;
use crate::labels::{Cgroup, Root, file_name, of_process};
use crate::processes::interner::Interner;
use crate::procfs;

/// Processes whose cgroup is read ahead of their samples' turn.
const AHEAD_MAX: usize = 4096;

/// How the labels of processes were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelCounts {
    /// Cgroups read.
    pub read: u64,
    /// Exited processes with the cgroup of their parent, or their own from before exec.
    pub inherited: u64,
    /// Processes that had exited and have none.
    pub unknown: u64,
}

/// Reads labels and shares equal ones.
#[derive(Debug)]
pub(in crate::processes) struct Labeller {
    root: Root,
    /// Cgroups read ahead of a sample's turn; `None` when the process had exited.
    ahead: HashMap<Pid, Option<Arc<Cgroup>>>,
    cgroups: Interner<Cgroup>,
    labels: Interner<Labels>,
    pub(in crate::processes) counts: LabelCounts,
}

impl Labeller {
    /// `root`: where the paths of cgroups begin.
    pub fn new(root: Root) -> Self {
        Self {
            root,
            ahead: HashMap::new(),
            cgroups: Interner::default(),
            labels: Interner::default(),
            counts: LabelCounts::default(),
        }
    }

    /// Reads a cgroup ahead of a sample's turn. `tid`: the sampled thread.
    pub fn read_ahead(&mut self, pid: Pid, tid: Tid) {
        if self.ahead.len() < AHEAD_MAX && !self.ahead.contains_key(&pid) {
            let cgroup = self.read_cgroup(pid, tid);
            self.ahead.insert(pid, cgroup);
        }
    }

    /// Returns the cgroup that was read ahead.
    pub fn take_ahead(&mut self, pid: Pid) -> Option<Option<Arc<Cgroup>>> {
        self.ahead.remove(&pid)
    }

    /// Reads the cgroup of a process through one of its threads, or through another one if that has
    /// exited; `None` when the process has exited.
    pub fn read_cgroup(&mut self, pid: Pid, tid: Tid) -> Option<Arc<Cgroup>> {
        let cgroup = read_live(pid, tid, |tid| read_cgroup(tid, &self.root))?;
        self.counts.read += 1;
        Some(self.cgroups.intern(cgroup))
    }

    /// Returns the labels of a process; reads its executable if it is unknown.
    pub fn labels(&mut self, pid: Pid, tid: Tid, process: &mut ProcessLabels) -> Arc<Labels> {
        if let Some(labels) = &process.labels {
            return Arc::clone(labels);
        }
        let executable = process.executable.get_or_insert_with(|| read_executable(pid, tid));
        let labels = of_process(Some(executable), process.cgroup.as_deref());
        let labels = self.labels.intern(labels);
        process.labels = Some(Arc::clone(&labels));
        labels
    }
}

/// Reads something of a process through a thread, or through one that runs: procfs shows neither
/// executable nor cgroup of a main thread that has exited, while other threads go on.
fn read_live<T>(pid: Pid, tid: Tid, read: impl Fn(u32) -> Option<T>) -> Option<T> {
    read(tid.0).or_else(|| read(procfs::running_thread(pid.0)?))
}

fn read_cgroup(tid: u32, root: &Root) -> Option<Cgroup> {
    let text = procfs::read_text(&format!("/proc/{tid}/cgroup")).ok()?;
    let cgroup = Cgroup::parse(&text, root)?;
    // An exited process is shown at the root of v1 hierarchies (proc_cgroup_show in the kernel's
    // cgroup.c).
    let has_exited = &*cgroup.path == "/" && procfs::stat(tid).is_none_or(|stat| stat.is_zombie);
    (!has_exited).then_some(cgroup)
}

/// Returns the file name of what a process executes; empty for a kernel thread or after its exit.
fn read_executable(pid: Pid, tid: Tid) -> Arc<str> {
    let read = |tid| fs::read_link(format!("/proc/{tid}/exe")).ok();
    let link = read_live(pid, tid, read).unwrap_or_default();
    file_name(&link.to_string_lossy()).into()
}
