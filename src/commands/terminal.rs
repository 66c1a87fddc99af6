//! Output for people, on standard error: standard output belongs to the profiled command.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use profile::{printable, printable_lines};
use terminal_size::{Width, terminal_size_of};

/// Width of a terminal that does not tell it.
const WIDTH_USUAL: usize = 80;

/// Writes a line, or several. Failure to write is ignored: it is no reason to stop profiling.
///
/// Nothing in it reaches the terminal as a command. Where a text from outside could end a line the
/// caller escapes it by [`profile::printable`].
pub(super) fn line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable_lines(text));
}

/// Writes a line, and returns after a second at the latest even if standard error is a pipe that no
/// process reads.
pub(super) fn last_line(text: &str) {
    let (sender, written) = mpsc::channel();
    let text = text.to_owned();
    let write = move || {
        line(&text);
        let _ = sender.send(());
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = written.recv_timeout(Duration::from_secs(1));
    }
}

/// Writes a line to standard output, for another program.
///
/// # Errors
/// When it cannot be written, as to a pipe that no process reads.
pub(super) fn result(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Replaces the current line of the terminal.
pub(super) fn replace_line(text: &str) {
    let mut out = io::stderr().lock();
    let _ = write!(out, "\r\x1b[K{}", printable(text));
    let _ = out.flush();
}

/// Returns whether standard error is a terminal.
pub(super) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Returns whether standard error is a terminal that can replace a line.
pub(super) fn replaces_lines() -> bool {
    is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Returns whether to use colours: on a terminal that has them, unless `NO_COLOR` is set
/// (<https://no-color.org>).
pub(super) fn uses_colors() -> bool {
    replaces_lines() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Returns how many characters fit into a line of the terminal.
pub(super) fn width() -> usize {
    let of_terminal = terminal_size_of(io::stderr()).map(|(Width(width), _)| width.into());
    let columns = || env::var("COLUMNS").ok()?.parse().ok();
    of_terminal.filter(|width| *width > 0).or_else(columns).unwrap_or(WIDTH_USUAL)
}
