//! The worker processes: this program, run with a hidden subcommand.

use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::Result;

/// This program's file, also after it was replaced or deleted.
pub(super) const SELF_EXE: &str = "/proc/self/exe";

/// Symbolizes the addresses that are requested over standard input, which is a socket, within
/// `memory_max` bytes.
pub(super) fn run_symbolizer(memory_max: u64) -> Result<ExitCode> {
    take_name();
    crate::symbolization::serve(io::stdin().as_fd(), memory_max)?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the files that are requested over standard input, which is a socket.
pub(super) fn run_file_helper() -> Result<ExitCode> {
    take_name();
    crate::processes::serve_file_helper(io::stdin().as_fd())?;
    Ok(ExitCode::SUCCESS)
}

/// Derives rows of the files that are requested over standard input, which is a socket.
pub(super) fn run_deriver() -> Result<ExitCode> {
    take_name();
    crate::tables::serve_deriver(io::stdin().as_fd())?;
    Ok(ExitCode::SUCCESS)
}

/// Takes the name of this program: after [`SELF_EXE`] it would be `exe` in profiles.
fn take_name() {
    let _ = rustix::thread::set_name(c"everytick"); // it only informs
}
