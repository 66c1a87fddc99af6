//! The limit on open files: executables are held open until their frames are symbolized.

use std::fs::File;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Executables held open at most, whatever the limit.
const HELD_MAX: u64 = 1 << 16;

/// Descriptors for which the table of open files has space from the start.
const RESERVED: i32 = 4096;

/// Raises the limit on open files to the hard limit, and reserves space in the table of open files.
///
/// When a table that threads share grows, the kernel waits for a grace period of RCU
/// (`expand_fdtable` in fs/file.c): tens of milliseconds under load, in which the processor would
/// stand still.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    // If this is refused, the lower limit stands and fewer files are held.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    // Beyond the limit nothing is reserved, and nothing is needed.
    let _ = File::open("/dev/null").map(|file| fcntl_dupfd_cloexec(file, RESERVED - 1));
}

/// Returns how many executables to hold open: half of the descriptors that [`raise_limit`] allows.
pub fn held_max() -> usize {
    let limit = getrlimit(Resource::Nofile).maximum;
    (limit.unwrap_or(u64::MAX) / 2).min(HELD_MAX) as usize
}
