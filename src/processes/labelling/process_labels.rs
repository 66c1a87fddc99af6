//! What is known of the labels of one process.

use std::sync::Arc;

use profile::{Labels, Pid};

use crate::labels::{Cgroup, file_name};

/// How long a cgroup is believed, in nanoseconds, when the threads of a process are in several.
pub(in crate::processes) const REREAD_AFTER_NS: u64 = 1_000_000_000;

/// Executable and cgroup of a process, and the labels made of them.
#[derive(Clone, Debug, Default)]
pub(in crate::processes) struct ProcessLabels {
    /// File name of its executable; `None` while unknown, empty for a kernel thread.
    pub(in crate::processes) executable: Option<Arc<str>>,
    /// It has called exec, and the file that it maps next is its executable.
    awaits_executable: bool,
    pub(in crate::processes) cgroup: Option<Arc<Cgroup>>,
    pub(in crate::processes) source: CgroupSource,
    /// ID of the cgroup in v2, from the sample for which it was read; 0 while unknown.
    pub(in crate::processes) cgroup_id: u64,
    /// Time of that sample.
    read_at: u64,
    pub(in crate::processes) parent: Option<Pid>,
    pub(in crate::processes) labels: Option<Arc<Labels>>,
}

/// Where the cgroup of a process is known from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::processes) enum CgroupSource {
    /// From its parent or from before exec; to be read.
    #[default]
    Inherited,
    /// From procfs.
    Procfs,
    /// It had exited before its cgroup was read: what was inherited is final.
    Exited,
}

impl ProcessLabels {
    /// Returns the labels of a child that this process has forked.
    pub fn of_child(&self, parent: Pid) -> Self {
        Self { source: CgroupSource::Inherited, parent: Some(parent), ..self.clone() }
    }

    /// Forgets the executable. The process may have been moved to another cgroup before exec: that
    /// is how services and containers are started.
    pub fn apply_exec(&mut self) {
        (self.executable, self.labels) = (None, None);
        self.source = CgroupSource::Inherited;
        self.awaits_executable = true;
    }

    /// Takes the first file that is mapped after exec for the executable.
    pub fn apply_mmap(&mut self, path: &str) {
        if self.awaits_executable && path.starts_with('/') {
            self.executable = Some(file_name(path).into());
            self.awaits_executable = false;
        }
    }

    /// Returns whether to read the cgroup for a sample at this time in the cgroup of this ID.
    pub(in crate::processes) fn is_due(&self, cgroup_id: u64, time: u64) -> bool {
        match self.source {
            CgroupSource::Inherited => true,
            CgroupSource::Exited => false,
            CgroupSource::Procfs => {
                self.cgroup_id != cgroup_id && time >= self.read_at.saturating_add(REREAD_AFTER_NS)
            }
        }
    }

    pub(in crate::processes) fn set_cgroup(
        &mut self,
        source: CgroupSource,
        cgroup: Option<Arc<Cgroup>>,
        cgroup_id: u64,
        time: u64,
    ) {
        (self.source, self.cgroup, self.labels) = (source, cgroup, None);
        (self.cgroup_id, self.read_at) = (cgroup_id, time);
    }
}
