//! The command lines of sampled processes, if they are wanted.
//!
//! They are in the memory of each process, which it may keep locked: the file helper reads them.

use std::sync::Arc;

use profile::labels::COMMAND_LINE;
use profile::{Labels, Pid, Tid};

use super::process_table::Processes;

impl Processes {
    /// Reads the command lines of sampled processes from now on.
    pub fn enable_command_lines(&mut self) {
        self.reads_command_lines = true;
    }

    /// Returns the command line of a process as its only label. There is none for kernel threads,
    /// for processes that had exited before, and unless command lines are enabled.
    pub(super) fn command_line(&mut self, pid: Pid, tid: Tid) -> Arc<Labels> {
        if !self.reads_command_lines || pid.0 == 0 {
            return Arc::default();
        }
        if let Some(known) = self.by_pid.get(&pid).and_then(|process| process.command_line.as_ref())
        {
            return Arc::clone(known);
        }
        let owner = self.owner_of(pid);
        let text = self.executables.file_helper.command_line((pid, tid), owner);
        let mut labels = Labels::default();
        labels.set(COMMAND_LINE, &text.unwrap_or_default());
        let labels = Arc::new(labels);
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.command_line = Some(Arc::clone(&labels));
        }
        labels
    }
}
