//! The COMMAND that `record` runs.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// Starts the command with our own standard streams.
pub(super) fn spawn(command: &[String]) -> Result<Child> {
    let (program, arguments) = command.split_first().context("no command was given after --")?;
    let child = Command::new(program).args(arguments).spawn();
    child.with_context(|| format!("cannot run {program}; check its name and permissions"))
}

/// The exit status to pass on: as a shell would, 128 and the signal's number for one that was killed.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Asks it to end.
pub(super) fn terminate(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process(pid, Signal::TERM); // it may be gone already
    }
}
