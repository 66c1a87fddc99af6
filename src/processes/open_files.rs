//! The limit on open files: executables are held open until their frames are symbolized.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Executables held open at most, whatever the limit.
const HELD_MAX: u64 = 1 << 16;

/// Raises the limit on open files to the hard limit.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    // If this is refused, the lower limit stands and fewer files are held.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Returns how many executables to hold open: half of the descriptors that [`raise_limit`] allows.
pub fn held_max() -> usize {
    let limit = getrlimit(Resource::Nofile).maximum;
    (limit.unwrap_or(u64::MAX) / 2).min(HELD_MAX) as usize
}
