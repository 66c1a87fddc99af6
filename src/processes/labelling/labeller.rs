//! Reads cgroups and executables from procfs.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use profile::{Labels, Pid};

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

    /// Reads a cgroup ahead of a sample's turn.
    pub fn read_ahead(&mut self, pid: Pid) {
        if self.ahead.len() < AHEAD_MAX && !self.ahead.contains_key(&pid) {
            let cgroup = self.read_cgroup(pid);
            self.ahead.insert(pid, cgroup);
        }
    }

    /// Returns the cgroup that was read ahead.
    pub fn take_ahead(&mut self, pid: Pid) -> Option<Option<Arc<Cgroup>>> {
        self.ahead.remove(&pid)
    }

    /// Reads the cgroup of a process; `None` when it has exited.
    pub fn read_cgroup(&mut self, pid: Pid) -> Option<Arc<Cgroup>> {
        let text = procfs::read_text(&format!("/proc/{pid}/cgroup")).ok()?;
        let cgroup = Cgroup::parse(&text, &self.root)?;
        // An exited process is shown at the root of v1 hierarchies (proc_cgroup_show in the
        // kernel's cgroup.c).
        if &*cgroup.path == "/" && procfs::stat(pid.0).is_none_or(|stat| stat.is_zombie) {
            return None;
        }
        self.counts.read += 1;
        Some(self.cgroups.intern(cgroup))
    }

    /// Returns the labels of a process; reads its executable if it is unknown.
    pub fn labels(&mut self, pid: Pid, process: &mut ProcessLabels) -> Arc<Labels> {
        if let Some(labels) = &process.labels {
            return Arc::clone(labels);
        }
        let executable = process.executable.get_or_insert_with(|| read_executable(pid));
        let labels = of_process(Some(executable), process.cgroup.as_deref());
        let labels = self.labels.intern(labels);
        process.labels = Some(Arc::clone(&labels));
        labels
    }
}

/// Returns the file name of what a process executes; empty for a kernel thread or after its exit.
fn read_executable(pid: Pid) -> Arc<str> {
    let link = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    file_name(&link.to_string_lossy()).into()
}
