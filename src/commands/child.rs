//! The profiled COMMAND.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// Starts the command. It inherits our standard streams. `is_stdout_used`: the profile is written
/// to standard output; what the command writes goes to standard error then.
pub(super) fn spawn(command: &[String], is_stdout_used: bool) -> Result<Child> {
    let (program, arguments) = command.split_first().context("no command was given after --")?;
    let stdout = match is_stdout_used {
        true => io::stderr().as_fd().try_clone_to_owned()?.into(),
        false => Stdio::inherit(),
    };
    let child = Command::new(program).args(arguments).stdout(stdout).spawn();
    child.with_context(|| format!("cannot run {program}; check its name and permissions"))
}

/// Returns the exit status to pass on: like a shell, 128 plus the signal's number after a signal.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Sends SIGTERM.
pub(super) fn terminate(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process(pid, Signal::TERM); // it may have exited
    }
}
