//! Signals that would end the program though nothing is wrong.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGALRM, SIGIO, SIGPROF, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ};
use signal_hook::flag;

use crate::procfs;

/// Signals without a constant in signal_hook, of Linux on x86-64 and arm64.
const SIGSTKFLT: i32 = 16;
const SIGPWR: i32 = 30;
const SIGHUP: u32 = 1;
/// Real-time signals that a program may use; the C library has those before.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Makes signals harmless whose default is to end the program and that ask nothing of it. Rust
/// does so for SIGPIPE.
///
/// SIGXFSZ: a write beyond the limit on file size fails with EFBIG instead. SIGXCPU: the hard limit
/// on CPU time still ends the program.
///
/// They get a handler that does nothing, because a program that is executed would inherit that a
/// signal is ignored: COMMAND starts with the defaults.
pub(super) fn ignore_harmless() {
    let single =
        [SIGALRM, SIGIO, SIGPROF, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ, SIGSTKFLT, SIGPWR];
    for signal in single.into_iter().chain(REAL_TIME) {
        // Where the kernel refuses a handler the default stays.
        let _ = flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
}

/// Returns whether this program was started with SIGHUP ignored, as `nohup` does.
pub(super) fn is_hangup_ignored() -> bool {
    procfs::own_status().ignored_signals >> (SIGHUP - 1) & 1 == 1
}
