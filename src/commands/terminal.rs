//! Lines for a person, on standard error: standard output belongs to the profiled command.

use std::io::{self, IsTerminal, Write};

/// Writes a line. That nobody reads it is no reason to stop.
pub(super) fn line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Replaces the current line of a terminal.
pub(super) fn replace_line(text: &str) {
    let mut out = io::stderr().lock();
    let _ = write!(out, "\r\x1b[K{text}");
    let _ = out.flush();
}

/// Says whether a person watches.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}
