//! Why a profile cannot be written.

use std::io;
use std::path::PathBuf;

use profile::pprof::DecodeError;

use super::format::{Format, extensions};

/// Why a file cannot be written. Each message includes the next step.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The name has no extension of a known format.
    #[error("{path}: the name must end in one of {}; or choose with --format", extensions())]
    Extension {
        /// The name as the caller chose it.
        path: PathBuf,
    },
    /// Standard output has no name.
    #[error("-o - needs a format; add --format with one of {}", Format::names().join(", "))]
    StdoutFormat,
    /// Standard output is a terminal, which would show bytes.
    #[error("standard output is a terminal, and this format is no text; redirect it to a file")]
    Terminal,
    /// Two outputs are one file.
    #[error("{path} is given twice; give each file once")]
    Twice {
        /// The second name of the file.
        path: PathBuf,
    },
    /// The format needs times of samples, and there are none.
    #[error(
        "{path}: this format shows when samples were taken, which a store does not keep; use \
         `everytick record` for it, or export to another format"
    )]
    NoTimes {
        /// The name as the caller chose it.
        path: PathBuf,
    },
    /// The samples stand for different times, which the format cannot express.
    #[error(
        "{path}: the sampling frequency changed within the range, which this format cannot \
         express; export a shorter range, or to {}", Format::Speedscope.extension()
    )]
    Periods {
        /// The name as the caller chose it.
        path: PathBuf,
    },
    /// A directory has this name.
    #[error("{path} is a directory; choose the name of a file in it")]
    IsDirectory {
        /// The name as the caller chose it.
        path: PathBuf,
    },
    /// No file can be created in the directory.
    #[error("cannot write to the directory {directory}: {source}; choose another directory")]
    Directory {
        /// Parent of the file to be written.
        directory: PathBuf,
        /// Error of the system call.
        source: io::Error,
    },
    /// Writing failed. No partial file remains.
    #[error("cannot write {path}: {source}{}", advice(source))]
    Write {
        /// The file to be written.
        path: PathBuf,
        /// Error of the system call.
        source: io::Error,
    },
    /// The flamegraph cannot be drawn.
    #[error("cannot draw {path}: {source}")]
    Draw {
        /// The file to be written.
        path: PathBuf,
        /// Error of the drawing library.
        source: io::Error,
    },
    /// The message is not a valid profile.
    #[error("cannot draw {path}: {source}")]
    Message {
        /// The file to be written.
        path: PathBuf,
        /// The first violation of the format.
        source: DecodeError,
    },
}

/// Returns the next step after an error that a limit of the process causes.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::FileTooLarge => "; raise the limit of the size of files (`ulimit -f`)",
        _ => "",
    }
}
