//! Output for people, on standard error: standard output belongs to the profiled command.

use std::io::{self, IsTerminal, Write};

/// Writes a line. Failure to write is ignored: it is no reason to stop profiling.
pub(super) fn line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Replaces the current line of the terminal.
pub(super) fn replace_line(text: &str) {
    let mut out = io::stderr().lock();
    let _ = write!(out, "\r\x1b[K{text}");
    let _ = out.flush();
}

/// Returns whether standard error is a terminal.
pub(super) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}
